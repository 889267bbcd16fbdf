//! What may be mounted over `/proc` and inside it.
//!
//! Programs in the container, its security modules and we ourselves believe what `/proc` says. A configuration may not
//! put anything else in its place, and inside it only the few files that tools such as lxcfs emulate. What counts is
//! where a mount really lands, not how its destination is spelled: that is asked of the descriptor.

use crate::error::{Context, Error, Result};
use rustix::fs::PROC_SUPER_MAGIC;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Files below `/proc` that describe the machine and may describe a smaller one.
const EMULATED: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Refuses a mount onto `target`; `source_is_procfs` is asked only about one onto `/proc` itself.
pub(super) fn check(
    root: BorrowedFd<'_>,
    destination: &Path,
    target: impl AsFd,
    source_is_procfs: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let inside = is_procfs(target.as_fd())?;
    if !inside && destination != Path::new("/proc") {
        return Ok(());
    }
    match below_proc(&name(root)?, &name(target.as_fd())?) {
        Some(rest) if rest.as_os_str().is_empty() && !source_is_procfs()? => Err(Error::invalid(format!(
            "{:?} cannot be mounted because it is not of type proc",
            destination.display()
        ))),
        Some(rest)
            if !rest.as_os_str().is_empty() && !EMULATED.iter().any(|name| rest == Path::new(name)) =>
        {
            Err(Error::invalid(format!(
                "{:?} cannot be mounted because it is inside /proc",
                destination.display()
            )))
        }
        _ => Ok(()),
    }
}

/// Whether a file is of procfs.
pub(super) fn is_procfs(file: impl AsFd) -> Result<bool> {
    Ok(rustix::fs::fstatfs(file).context(|| "fstatfs")?.f_type == PROC_SUPER_MAGIC)
}

/// The path of a descriptor, as the host sees it.
fn name(file: BorrowedFd<'_>) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let text = rustix::fs::readlink(&link, Vec::new()).context(|| format!("readlink({link:?})"))?;
    Ok(std::ffi::OsString::from_vec(text.into_bytes()).into())
}

/// Where below the root's `/proc` a path is.
fn below_proc(root: &Path, target: &Path) -> Option<PathBuf> {
    target.strip_prefix(root).ok()?.strip_prefix("proc").ok().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_below_proc_are_told_by_where_they_are() {
        let below = |target: &str| below_proc(Path::new("/b/rootfs"), Path::new(target));
        assert_eq!(below("/b/rootfs/proc"), Some(PathBuf::new()));
        assert_eq!(below("/b/rootfs/proc/sys/kernel"), Some("sys/kernel".into()));
        assert_eq!(below("/b/rootfs/process"), None);
        assert_eq!(below("/proc/sys"), None);
    }
}
