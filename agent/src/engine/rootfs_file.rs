//! Reading what an image brought, safely: a path is resolved by the kernel inside the root file system
//! (`openat2` with RESOLVE_IN_ROOT), so no symbolic link of the image can lead to a file of the host, and a fifo or
//! an endless file stalls nobody.

use anyhow::Context;
use knarr_images::scoped_open;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Far more than any real passwd or group file.
const LIMIT: u64 = 1 << 20;

/// The text of a regular file; empty where there is none.
pub(crate) fn read(rootfs: &Path, path: &str) -> anyhow::Result<String> {
    let file = match open(rootfs, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        other => File::from(other.with_context(|| format!("opening {path} of the image"))?),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where on the host a path inside `root` really is.
pub(crate) fn locate(root: &Path, path: &str) -> std::io::Result<PathBuf> {
    let found = open(root, path, OFlags::PATH)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

fn open(rootfs: &Path, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let root =
        rustix::fs::openat(CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    scoped_open(root, path.trim_start_matches('/'), flags, resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/real"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/real", root.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/hostname", root.path().join("etc/group")).unwrap();
        assert_eq!(read(root.path(), "/etc/passwd").unwrap(), "inside");
        assert_eq!(read(root.path(), "/etc/group").unwrap(), "");
        assert_eq!(read(root.path(), "/etc/none").unwrap(), "");
        assert_eq!(locate(root.path(), "etc/passwd").unwrap(), root.path().join("etc/real"));
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            CWD,
            root.path().join("passwd"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(read(root.path(), "passwd").unwrap(), "");
    }
}
