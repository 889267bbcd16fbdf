//! Id maps of user namespaces: who root inside is outside.

use crate::error::{Context, Error, Kind, Result};
use crate::kernel_file;
use crate::spec::IdMapping;
use knarr_sys::clone::{Side, SingleThreaded, clone};
use rustix::process::Pid;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::process::Command;

/// The text of `/proc/PID/uid_map`. The kernel wants it in one write.
pub(crate) fn text(mappings: &[IdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut text, map| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", map.container_id, map.host_id, map.size);
        text
    })
}

/// Gives a process that is in a new user namespace its maps.
pub(crate) fn write(pid: Pid, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let (own_uid, own_gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if own_uid.is_root() {
        write_file(pid, "gid_map", gids)?;
        return write_file(pid, "uid_map", uids);
    }
    if is_only(gids, own_gid.as_raw()) {
        // Without CAP_SETGID outside, a group map is refused unless setgroups is given up first.
        std::fs::write(format!("/proc/{}/setgroups", pid.as_raw_nonzero()), "deny")
            .context(|| "write setgroups")?;
        write_file(pid, "gid_map", gids)?;
    } else {
        by_program("newgidmap", pid, gids)?;
    }
    if is_only(uids, own_uid.as_raw()) {
        write_file(pid, "uid_map", uids)
    } else {
        by_program("newuidmap", pid, uids)
    }
}

/// The one map that an ordinary user may write: itself alone.
fn is_only(maps: &[IdMapping], own: u32) -> bool {
    matches!(maps, [only] if only.size == 1 && only.host_id == own)
}

fn write_file(pid: Pid, file: &str, maps: &[IdMapping]) -> Result<()> {
    kernel_file::write(format!("/proc/{}/{file}", pid.as_raw_nonzero()), text(maps))
        .context(|| format!("failed to write {file} of the container's user namespace"))
}

/// The set-user-id programs that know from `/etc/subuid` and `/etc/subgid` which ids this user may hand out.
fn by_program(program: &str, pid: Pid, maps: &[IdMapping]) -> Result<()> {
    let numbers = maps.iter().flat_map(|map| [map.container_id, map.host_id, map.size]);
    let arguments = std::iter::once(pid.as_raw_nonzero().to_string()).chain(numbers.map(|n| n.to_string()));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .context(|| format!("{program} (needed for more than one's own id)"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
    Err(Error::new(Kind::Os, format!("{program}: {said}")))
}

/// A user namespace that only exists for its maps (idmapped mounts). A child makes it and waits to be killed.
pub(crate) fn namespace_with(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let single = SingleThreaded::prove()?;
    let child = match clone(&single, libc::CLONE_NEWUSER as u64, None)? {
        Side::Parent(child) => child,
        Side::Child => loop {
            // Until the parent has opened the namespace.
            nix::unistd::pause();
        },
    };
    let opened = write(child.pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid.as_raw_nonzero());
        knarr_sys::namespace::open(std::path::Path::new(&path)).map_err(Error::from)
    });
    let killed = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL)
        .context(|| "pidfd_send_signal(SIGKILL)");
    let reaped =
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).context(|| "wait4");
    let namespace = opened?;
    killed?;
    reaped?;
    Ok(namespace.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn only_its_own_id_can_a_user_map_itself() {
        assert!(is_only(&[map(0, 1000, 1)], 1000));
        for maps in [vec![], vec![map(0, 1000, 2)], vec![map(0, 0, 1)], vec![map(0, 1000, 1), map(1, 1, 1)]] {
            assert!(!is_only(&maps, 1000), "{maps:?}");
        }
    }

    #[test]
    fn one_line_per_range() {
        let maps = [map(0, 1000, 1), map(1, 100_000, 10)];
        assert_eq!(text(&maps), "0 1000 1\n1 100000 10\n");
    }
}
