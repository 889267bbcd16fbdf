//! Becoming the container's user: groups, ids, home, working directory.

use crate::error::{Context, Error, Kind, Result};
use crate::plan::UserPlan;
use knarr_sys::process;
use rustix::fs::{FileType, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Changes all ids; capabilities survive until `capabilities::apply` sets them.
pub(crate) fn become_user(user: &UserPlan) -> Result<()> {
    rustix::thread::set_keep_capabilities(true).context(|| "prctl(PR_SET_KEEPCAPS, 1)")?;
    match process::set_groups(&user.groups) {
        // A user namespace where setgroups is denied has no groups to give up either.
        Err(error) if error.errno == Errno::PERM && user.groups.is_empty() => {}
        other => other.context(|| "unable to set groups")?,
    }
    process::set_gid(user.gid).context(|| "unable to set gid")?;
    process::set_uid(user.uid).context(|| "unable to set uid")?;
    rustix::thread::set_keep_capabilities(false).context(|| "prctl(PR_SET_KEEPCAPS, 0)")
}

/// Standard input and outputs belong to the user, or it could not open them again through `/proc/self/fd`. The null
/// device stays as it is; what cannot be changed (read-only, a pipe of somebody else's namespace) is left.
pub(crate) fn own_stdio(uid: u32) -> Result<()> {
    let fds: [BorrowedFd<'_>; 3] = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for fd in fds {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        let null = crate::plan::is_device(&stat, 'c', (1, 3));
        if null || stat.st_uid == uid || FileType::from_raw_mode(stat.st_mode) == FileType::Unknown {
            continue;
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => {
                return Err(errno).context(|| "unable to change the owner of standard input or output");
            }
        }
    }
    Ok(())
}

/// Enters the working directory and makes sure that it is inside the root: a descriptor of the host that leaked into
/// us could otherwise be entered through `/proc/self/fd` (CVE-2024-21626).
pub(crate) fn enter_directory(cwd: &Path) -> Result<()> {
    rustix::process::chdir(cwd)
        .context(|| format!("chdir to cwd ({:?}) set in config.json failed", cwd.display()))?;
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(Error::new(
            Kind::Os,
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
        Err(errno) => Err(errno).context(|| "getcwd"),
    }
}

/// `HOME` from the container's own `/etc/passwd`, where the environment has none.
pub(crate) fn with_home(mut env: Vec<CString>, uid: u32) -> Vec<CString> {
    let is_home = |variable: &CString| variable.to_bytes().starts_with(b"HOME=");
    if env.iter().any(|variable| is_home(variable) && variable.to_bytes().len() > 5) {
        return env;
    }
    env.retain(|variable| !is_home(variable));
    let home = std::fs::read("/etc/passwd")
        .ok()
        .and_then(|text| home_of(&text, uid))
        .unwrap_or_else(|| b"/".to_vec());
    env.extend(CString::new([b"HOME=".as_slice(), &home].concat()));
    env
}

/// The sixth field of the line whose third is the user id.
fn home_of(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let id: u32 = std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?;
        let home = fields.get(5)?;
        (id == uid && !home.is_empty()).then(|| home.to_vec())
    })
}

/// Standard input and outputs that are the host's null device become the container's: a descriptor of a mount that is not
/// in the container could not be restored from a checkpoint. An image that has something else there keeps what it was given.
pub(crate) fn own_null_device() -> Result<()> {
    let is_null = |stat: &rustix::fs::Stat| crate::plan::is_device(stat, 'c', (1, 3));
    let given = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let theirs = given.map(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| is_null(&stat)));
    if theirs == [false; 3] {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(own) = rustix::fs::open("/dev/null", flags, Mode::empty()) else { return Ok(()) };
    if !rustix::fs::fstat(&own).is_ok_and(|stat| is_null(&stat)) {
        return Ok(());
    }
    let dup: [fn(&OwnedFd) -> rustix::io::Result<()>; 3] = [
        |fd| rustix::stdio::dup2_stdin(fd),
        |fd| rustix::stdio::dup2_stdout(fd),
        |fd| rustix::stdio::dup2_stderr(fd),
    ];
    theirs
        .iter()
        .zip(dup)
        .filter(|(theirs, _)| **theirs)
        .try_for_each(|(_, dup)| dup(&own))
        .context(|| "dup2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_found_by_user_id() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad line\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(home_of(passwd, 1000).unwrap(), b"/home/me");
        assert_eq!(home_of(passwd, 7), None);
    }

    #[test]
    fn a_home_that_is_given_stays() {
        let env = vec![CString::new("HOME=/x").unwrap()];
        assert_eq!(with_home(env.clone(), 0), env);
        assert_eq!(
            with_home(vec![CString::new("HOME=").unwrap()], 4_000_000_000),
            [CString::new("HOME=/").unwrap()]
        );
    }
}
