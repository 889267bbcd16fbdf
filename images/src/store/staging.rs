//! The directory of half-made things: what a dead process left there goes at the next start, what a living one works
//! on stays.
//!
//! ```text
//! staging/HEX.lock, HEX/     a layer being unpacked, and its owner's lock
//! staging/snapshot-X/        a snapshot being built, while its owner holds the store's lock shared
//! staging/file-X             a blob being written, with its owner's lock on the file itself
//! ```
//!
//! The sweep holds the store's lock exclusively, so it meets no snapshot in the making and no file without its lock.

use crate::error::{Error, Result};
use crate::layer::removal::remove_path;
use crate::lock::FileLock;
use crate::store::parts::Parts;
use rustix::fs::{FlockOperation, flock};
use std::path::Path;

const SNAPSHOT: &str = "snapshot-";
const FILE: &str = "file-";

impl Parts {
    /// A file for a blob whose name is known only at its end. It goes when it is dropped, or when its owner dies.
    pub(crate) fn temporary_file(&self) -> Result<tempfile::NamedTempFile> {
        let staging = self.root.join("staging");
        self.without_collector(|| {
            let file = tempfile::Builder::new().prefix(FILE).tempfile_in(&staging);
            let file = file.map_err(|e| Error::path("create in", &staging, e))?;
            flock(file.as_file(), FlockOperation::LockExclusive)
                .map_err(|e| Error::path("flock", file.path(), e))?;
            Ok(file)
        })
    }

    /// Removes what dead owners left half made. The caller holds the store's lock exclusively.
    pub(crate) fn sweep_staging(&self) -> Result<()> {
        let staging = self.root.join("staging");
        let failed = |e| Error::path("readdir", &staging, e);
        for entry in std::fs::read_dir(&staging).map_err(failed)? {
            sweep(&entry.map_err(failed)?.path())?;
        }
        Ok(())
    }
}

/// A lock that can be had proves that its owner is dead.
fn sweep(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(SNAPSHOT) {
        return remove_path(path);
    }
    let is_file = name.starts_with(FILE);
    let lock = if is_file { path.to_owned() } else { path.with_extension("lock") };
    let Some(lock) = FileLock::try_exclusive(&lock)? else { return Ok(()) };
    if !is_file {
        // Before its lock: a directory without one would be nobody's.
        remove_path(&path.with_extension(""))?;
    }
    lock.remove()
}
