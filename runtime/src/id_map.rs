//! Id maps of user namespaces: who root inside is outside.

use crate::error::{Context, Error, Result};
use crate::spec::IdMapping;
use knarr_sys::clone::{Side, SingleThreaded, clone};
use rustix::process::Pid;
use std::fmt::Write;
use std::os::fd::OwnedFd;

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
    let pid = pid.as_raw_nonzero();
    // Without CAP_SETGID outside, a group map is refused unless setgroups is given up first.
    if !rustix::process::geteuid().is_root() {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").context(|| "write setgroups")?;
    }
    for (file, maps) in [("gid_map", gids), ("uid_map", uids)] {
        std::fs::write(format!("/proc/{pid}/{file}"), text(maps))
            .context(|| format!("failed to write {file} of the container's user namespace"))?;
    }
    Ok(())
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
    fn one_line_per_range() {
        let maps = [map(0, 1000, 1), map(1, 100_000, 10)];
        assert_eq!(text(&maps), "0 1000 1\n1 100000 10\n");
    }
}
