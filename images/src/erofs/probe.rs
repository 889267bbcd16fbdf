//! Whether this kernel mounts an image of ours from a file that lies here.
//!
//! That takes the privilege to mount, and Linux 6.12 with a file system beneath that it can map (not tmpfs), or else
//! Linux 6.4 (blocks of 512 bytes) and a loop device. The only honest way to know is to try, with a file that has no
//! name and a mount that is attached nowhere.

use crate::erofs::image::write_to;
use crate::erofs::sink::START;
use crate::erofs::tree::Tree;
use crate::mount::Mount;
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// True where layers in this directory can be held in one file each.
pub(crate) fn mounts_from(directory: &Path) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) else { return false };
    let file = File::from(file);
    let mut tree = Tree::new();
    tree.end = START;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    write_to(&file, &tree).and_then(|()| Mount::erofs(source).detached()).is_ok()
}
