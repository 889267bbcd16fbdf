//! What was found beneath a volume, held where only the node can change it: a bind mount at a path of ours.
//!
//! A path in a volume belongs to the containers that write there, and may be another file by the time a runtime mounts it.

use rustix::fs::{FileType, fstat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Binds what was found, with what is mounted below it, to `target`, which is made for it.
pub(crate) fn pin(found: &OwnedFd, target: &Path) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match FileType::from_raw_mode(fstat(found)?.st_mode).is_dir() {
        true => std::fs::create_dir_all(target)?,
        false => drop(std::fs::File::create(target)?),
    }
    Ok(rustix::mount::mount_bind_recursive(format!("/proc/self/fd/{}", found.as_raw_fd()), target)?)
}
