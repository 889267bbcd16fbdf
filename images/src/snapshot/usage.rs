//! What a tree takes on disk.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of the blocks and number of inodes; a file with several names counts once. Files that vanish meanwhile do
/// not count.
pub(crate) fn usage_of(root: &Path) -> Result<(u64, u64)> {
    let mut seen = HashSet::new();
    let mut total = (0, 0);
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| Error::path("stat", &path, e))?,
        };
        if meta.nlink() > 1 && !meta.is_dir() && !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        total = (total.0 + meta.blocks() * 512, total.1 + 1);
        if meta.is_dir() {
            match std::fs::read_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => {
                    let entries = other.map_err(|e| Error::path("readdir", &path, e))?;
                    pending.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
                }
            }
        }
    }
    Ok(total)
}
