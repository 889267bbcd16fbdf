//! Attributes of its source that a bind mount may not take off.
//!
//! The options of a bind mount replace what its source has (`nosuid`, `ro`, ...), as runc takes them. In a user namespace
//! the kernel locks those of the source against that; but a tree that the runtime opened outside has no locks yet, so
//! they are respected here. What the options clear by name and may not is an error, the rest stays as it is.

use super::act::changes;
use super::{Attributes, MountPlan};
use crate::error::{Context, Result};
use knarr_sys::mount::{self, attr};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// What is locked bit by bit; the access-time mode is locked as a whole.
const LOCKABLE: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// The access-time mode.
const ACCESS_TIME: u64 = attr::ATIME_MASK | attr::NODIRATIME;

/// Gives a detached tree the attributes that the plan wants, within its locks.
///
/// # Errors
/// `EPERM` where the options clear by name, or change, what is locked.
pub(super) fn set(plan: &MountPlan, tree: &OwnedFd) -> Result<()> {
    let wanted = mount::set_attributes(tree, changes(plan.attributes), false);
    match wanted {
        Err(error) if error.errno == Errno::PERM => keep(plan, tree, attributes(tree)?),
        done => Ok(done?),
    }
}

/// The same for a tree that a user namespace is going to lock.
pub(super) fn set_before_lock(plan: &MountPlan, tree: &OwnedFd) -> Result<()> {
    let source = attributes(tree)?;
    set(plan, tree)?;
    // What is read-only as a file system is so still, whatever the mount says.
    if keeps(source, attributes(tree)?) { Ok(()) } else { keep(plan, tree, source) }
}

fn keep(plan: &MountPlan, tree: &OwnedFd, source: u64) -> Result<()> {
    let allowed = within(plan.attributes, plan.cleared, source).ok_or_else(|| knarr_sys::Error {
        call: format!("mount_setattr(clear 0x{:x}), locked on the source", source & plan.cleared),
        errno: Errno::PERM,
        detail: None,
    })?;
    Ok(mount::set_attributes(tree, changes(allowed), false)?)
}

/// Nothing that is locked is lost.
fn keeps(source: u64, after: u64) -> bool {
    source & LOCKABLE & !after == 0 && source & ACCESS_TIME == after & ACCESS_TIME
}

/// What is wanted, and what `source` has beside it; `None` where that contradicts the options.
fn within(wanted: Attributes, cleared: u64, source: u64) -> Option<Attributes> {
    let after = source & !wanted.clear | wanted.set;
    let chosen = wanted.clear & attr::ATIME_MASK != 0;
    if source & cleared & LOCKABLE != 0 || chosen && (source ^ after) & ACCESS_TIME != 0 {
        return None;
    }
    let locked = source & LOCKABLE;
    Some(Attributes { set: wanted.set | locked, clear: wanted.clear & !locked })
}

/// `MOUNT_ATTR_*` of a mount.
fn attributes(tree: &OwnedFd) -> Result<u64> {
    let flags = rustix::fs::fstatvfs(tree).context(|| "fstatfs(<source>)")?.f_flag.bits();
    let known = [
        (libc::ST_RDONLY, attr::RDONLY),
        (libc::ST_NOSUID, attr::NOSUID),
        (libc::ST_NODEV, attr::NODEV),
        (libc::ST_NOEXEC, attr::NOEXEC),
        (libc::ST_NODIRATIME, attr::NODIRATIME),
        (libc::ST_NOATIME, attr::NOATIME),
    ];
    let found = known.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |bits, (_, bit)| bits | bit);
    let strict = flags & (libc::ST_NOATIME | libc::ST_RELATIME) == 0;
    Ok(if strict { found | attr::STRICTATIME } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::options;

    fn wanted(words: &str) -> (Attributes, u64) {
        let parsed = options::parse(&words.split(',').map(String::from).collect::<Vec<_>>());
        (parsed.flags.replacing(), parsed.flags.cleared_attributes())
    }

    #[test]
    fn what_is_not_named_stays_and_what_is_named_is_refused() {
        let after = |words: &str, source: u64| {
            let (wanted, cleared) = wanted(words);
            within(wanted, cleared, source).map(|allowed| source & !allowed.clear | allowed.set)
        };
        let (ro, nosuid, nodev) = (attr::RDONLY, attr::NOSUID, attr::NODEV);
        for (words, source, expected) in [
            ("bind,nosuid,nodev", ro, Some(ro | nosuid | nodev)),
            ("bind,rw,nosuid,nodev", ro, None),
            ("bind,dev", ro | attr::NOSYMFOLLOW, Some(ro)),
            ("bind,ro,exec", nodev | nosuid | attr::NOATIME, Some(ro | nodev | nosuid | attr::NOATIME)),
            ("bind,norelatime", attr::NOATIME | attr::NODIRATIME, Some(attr::NOATIME | attr::NODIRATIME)),
            ("bind,strictatime", attr::NODIRATIME, None),
            ("bind,noatime", 0, None),
            ("bind,noatime", attr::NOATIME, Some(attr::NOATIME)),
            ("bind,nodiratime", 0, None),
            ("bind,ro,strictatime", attr::STRICTATIME, Some(ro | attr::STRICTATIME)),
        ] {
            assert_eq!(after(words, source), expected, "{words} on {source:x}");
        }
    }
}
