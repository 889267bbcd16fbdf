//! The one description of a mount that images and engine share: a snapshot is handed out as a list of these, and
//! nobody outside this crate learns how a layer is kept.

use serde::{Deserialize, Serialize};

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
