//! The one description of a mount that images and engine share: a snapshot is handed out as a list of these, and
//! nobody outside this crate learns how a layer is kept.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One mount, in the terms of mount(8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// `overlay`, `bind`, `erofs`, ...
    pub fs_type: String,
    /// Device, directory or file.
    pub source: String,
    /// `ro`, `lowerdir=...`, ...
    pub options: Vec<String>,
}

impl Mount {
    /// Mounts it at a directory that exists. A list of mounts is mounted in order, all at the same target.
    pub fn mount_at(&self, target: &Path) -> Result<(), Error> {
        let _ = target;
        Err(Error::unsupported("mount"))
    }

    /// Undoes every mount at a target; one that is not a mount point is no error.
    pub fn unmount(target: &Path) -> Result<(), Error> {
        let _ = target;
        Err(Error::unsupported("unmount"))
    }
}
