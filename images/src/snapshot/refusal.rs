//! Whether overlays can be made here at all: by the kernel, or by fuse-overlayfs where the kernel refuses.
//!
//! Asked at every start, so the file systems of nearly every machine are known by their numbers; on any other one an
//! overlay that is attached nowhere is tried.

use crate::error::{Error, Result};
use crate::fuse_overlay::is_installed;
use crate::snapshot::overlay::{fill, writable};
use rustix::fs::FsWord;
use std::path::Path;

/// ext4, XFS, Btrfs, tmpfs, F2FS.
const KNOWN: [FsWord; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

/// For writable directories in `staging`.
pub(crate) fn overlays_on(staging: &Path) -> Result<bool> {
    let here = rustix::fs::statfs(staging).map_err(|e| Error::path("statfs", staging, e))?;
    Ok(KNOWN.contains(&here.f_type) || is_installed() || kernel_does(staging)?)
}

fn kernel_does(staging: &Path) -> Result<bool> {
    let place = tempfile::Builder::new().prefix("overlay-").tempdir_in(staging);
    let place = place.map_err(|e| Error::path("mkdir in", staging, e))?;
    let lower = place.path().join("lower");
    std::fs::create_dir(&lower).map_err(|e| Error::path("mkdir", &lower, e))?;
    fill(place.path(), std::slice::from_ref(&lower))?;
    Ok(writable(&[lower], place.path(), &[]).detached().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::Mount;

    #[test]
    fn the_kernel_is_asked() {
        let place = tempfile::tempdir().unwrap();
        assert!(overlays_on(place.path()).unwrap());
        assert!(kernel_does(place.path()).unwrap());
        let above = place.path().join("above");
        for name in ["lower", "above"] {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        fill(place.path(), &[]).unwrap();
        writable(&[place.path().join("lower")], place.path(), &[]).mount_at(&above).unwrap();
        let refused = kernel_does(&above);
        Mount::unmount(&above).unwrap();
        assert!(!refused.unwrap(), "an overlay on an overlay");
    }
}
