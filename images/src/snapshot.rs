//! Snapshots: a root file system for one container, on top of committed layers.
//!
//! `layers` holds what images share, by chain id, and never changes it; a snapshotter stacks a place for one
//! container's own writes on top. A snapshot's record names its topmost layer, which is what keeps it (and
//! everything beneath) from being collected.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::mount::Mount;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod attacks;
pub(crate) mod copy;
pub(crate) mod layers;
pub(crate) mod overlay;
pub(crate) mod refusal;
#[cfg(test)]
mod suite;
pub(crate) mod usage;

/// Whether a snapshot takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

/// Makes root file systems.
pub(crate) trait Snapshotter: Debug + Send + Sync {
    /// Makes a snapshot on top of a layer (an empty one where there is none). Again with the same key: the same.
    fn prepare(&self, key: &str, parent: Option<&Digest>, access: Access) -> Result<Vec<Mount>>;

    /// The mounts of a snapshot that exists.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// Removes a snapshot and what was written to it. Nothing there is no error.
    fn remove(&self, key: &str) -> Result<()>;

    /// The directory of a snapshot's own writes, as overlayfs keeps them, and the layer it stands on.
    fn writes(&self, key: &str) -> Result<(PathBuf, Option<Digest>)>;

    /// The layer that a snapshot stands on; none where there is no such snapshot.
    fn parent(&self, key: &str) -> Option<Digest>;

    /// Every snapshot and the layer it stands on.
    fn walk(&self) -> Result<Vec<(String, Option<Digest>)>>;

    /// Bytes and inodes of a snapshot's own writes.
    fn usage(&self, key: &str) -> Result<(u64, u64)>;
}

/// What is on disk about a snapshot, in `snapshots/KEY/snapshot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) parent: Option<Digest>,
    pub(crate) access: Access,
}

/// The directory of all snapshots, which both snapshotters keep in the same way.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    pub(crate) snapshots: PathBuf,
    pub(crate) staging: PathBuf,
    pub(crate) trash: PathBuf,
}

const RECORD: &str = "snapshot.json";

impl Shelf {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let shelf = Self {
            snapshots: root.join("snapshots"),
            staging: root.join("staging"),
            trash: root.join("trash"),
        };
        for dir in [&shelf.snapshots, &shelf.staging, &shelf.trash] {
            std::fs::create_dir_all(dir).map_err(|e| Error::path("mkdir", dir, e))?;
        }
        Ok(shelf)
    }

    /// The directory of one snapshot. Keys come from callers of callers, so they are checked before they are a path.
    pub(crate) fn path(&self, key: &str) -> Result<PathBuf> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !starts || key.len() > 200 || !key.bytes().all(valid) {
            return Err(Error::invalid(format!("invalid snapshot key {key:?}")));
        }
        Ok(self.snapshots.join(key))
    }

    pub(crate) fn record(&self, key: &str) -> Result<Option<Record>> {
        let path = self.path(key)?.join(RECORD);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::new(ErrorKind::Io, format!("{}: {e}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", &path, error)),
        }
    }

    pub(crate) fn expect(&self, key: &str) -> Result<Record> {
        self.record(key)?.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("snapshot {key}: not found")))
    }

    /// Makes the snapshot unless somebody has; one of another parent or access is refused.
    pub(crate) fn ensure(
        &self,
        key: &str,
        wanted: &Record,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        if self.record(key)?.is_none() && self.create(key, wanted, fill)? {
            return Ok(());
        }
        if self.expect(key)? == *wanted {
            return Ok(());
        }
        Err(Error::invalid(format!("snapshot {key}: already exists with another parent or access")))
    }

    /// Builds a snapshot's directory aside and then gives it its name, so that it is there whole or not at all. Not made
    /// where somebody else has made it meanwhile.
    fn create(&self, key: &str, record: &Record, fill: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
        let destination = self.path(key)?;
        let staging = tempfile::Builder::new().prefix("snapshot-").tempdir_in(&self.staging);
        let staging = staging.map_err(|e| Error::path("mkdir in", &self.staging, e))?;
        fill(staging.path())?;
        let text = serde_json::to_vec(record).map_err(|e| Error::invalid(e.to_string()))?;
        let path = staging.path().join(RECORD);
        std::fs::write(&path, text).map_err(|e| Error::path("write", &path, e))?;
        match std::fs::rename(staging.path(), &destination) {
            Ok(()) => {
                // It has another name now; nothing is left to remove.
                let _ = staging.keep();
                Ok(true)
            }
            // Somebody else made it meanwhile; with another parent or access that is for the caller to notice.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTEMPTY.raw_os_error()) => {
                Ok(false)
            }
            Err(error) => Err(Error::path("rename to", &destination, error)),
        }
    }

    /// Renamed away at once; the files are removed afterwards by whoever empties the trash.
    pub(crate) fn remove(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        discard(&path, &self.trash)
    }

    pub(crate) fn walk(&self) -> Result<Vec<(String, Option<Digest>)>> {
        let failed = |e| Error::path("readdir", &self.snapshots, e);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.snapshots).map_err(failed)? {
            let Ok(key) = entry.map_err(failed)?.file_name().into_string() else { continue };
            // A record that a power cut destroyed protects no layer, but its snapshot can still be listed and removed.
            let parent = self.record(&key).ok().flatten().and_then(|record| record.parent);
            found.push((key, parent));
        }
        found.sort();
        Ok(found)
    }
}

/// Moves something into the trash under a name of its own, in one step: a place prepared for it there would be taken
/// by whoever empties the trash meanwhile. Nothing there is no error.
pub(crate) fn discard(path: &Path, trash: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = trash.join(format!("{}-{number}", std::process::id()));
        match renameat_with(CWD, path, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Left by an earlier process of this number.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::path("rename", path, error)),
        }
    }
}
