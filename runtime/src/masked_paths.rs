//! `maskedPaths`: files become `/dev/null`, directories an empty read-only tmpfs.
//!
//! The null device is taken from the host before the root is swapped, and its inode is checked: the container's own
//! could be replaced by something writable that would then lie over the very file it should hide (CVE-2025-31133).

use crate::error::{Context, Error, Result};
use crate::safe_path;
use knarr_sys::mount::{self, attr};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The host's null device.
pub(crate) fn open_null() -> Result<OwnedFd> {
    let null =
        rustix::fs::open("/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .context(|| "open(\"/dev/null\")")?;
    let stat = rustix::fs::fstat(&null).context(|| "fstat(\"/dev/null\")")?;
    if crate::plan::is_device(&stat, 'c', (1, 3)) {
        return Ok(null);
    }
    Err(Error::invalid("the host's /dev/null is not the null device"))
}

/// Masks all paths; those that do not exist need none. All directories share one empty file system.
pub(crate) fn apply(root: BorrowedFd<'_>, null: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        mask(root, null, path, &mut empty).context(|| format!("can't mask path {:?}", path.display()))?;
    }
    Ok(())
}

fn mask(root: BorrowedFd<'_>, null: BorrowedFd<'_>, path: &Path, empty: &mut Option<OwnedFd>) -> Result<()> {
    let target = match safe_path::find(root, path) {
        Ok(target) => target,
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&target).context(|| "fstat")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let tree = mount::clone_tree(null, "", false)?;
        return Ok(mount::move_to_fd(&tree, &target)?);
    }
    let tree = match empty {
        // Only a mount that is attached can be cloned on every kernel: the first one is the original.
        Some(first) => mount::clone_tree(&*first, "", false)?,
        None => crate::mounts::source::new("tmpfs", "tmpfs", "nr_blocks=1,nr_inodes=1", attr::RDONLY)?,
    };
    mount::move_to_fd(&tree, &target)?;
    empty.get_or_insert(tree);
    Ok(())
}
