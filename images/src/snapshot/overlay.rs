//! Snapshots by overlayfs: nothing is copied, a container's writes go to a directory of its own.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::mount::{Mount, escape};
use crate::snapshot::layers::Layers;
use crate::snapshot::usage::usage_of;
use crate::snapshot::{Access, Record, Shelf, Snapshotter};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(crate) const UPPER: &str = "fs";
pub(crate) const WORK: &str = "work";

/// The default.
#[derive(Debug)]
pub(crate) struct Overlay {
    shelf: Shelf,
    layers: Layers,
}

impl Overlay {
    pub(crate) fn open(root: &Path, layers: Layers) -> Result<Self> {
        Ok(Self { shelf: Shelf::open(root)?, layers })
    }

    fn mounts_of(&self, key: &str, record: &Record, lower: &[PathBuf]) -> Result<Vec<Mount>> {
        let directory = self.shelf.path(key)?;
        if !directory.join(WORK).exists() {
            // A copy of everything, from when the kernel refused.
            return Ok(vec![Mount::bind(&directory.join(UPPER), record.access == Access::ReadOnly)]);
        }
        Ok(vec![match record.access {
            Access::ReadOnly if lower.is_empty() => Mount::bind(&directory.join(UPPER), true),
            Access::ReadOnly => read_only(lower),
            Access::ReadWrite => writable(lower, &directory, &[]),
        }])
    }
}

/// Layers seen as one tree, the topmost first; at least one.
pub(crate) fn read_only(lower: &[PathBuf]) -> Mount {
    match lower {
        [only] => Mount::bind(only, true),
        lower => overlay(vec!["ro".to_owned(), lowerdir(lower)]),
    }
}

/// The same with a place for writes in `directory`, which `fill` has prepared.
pub(crate) fn writable(lower: &[PathBuf], directory: &Path, more: &[&str]) -> Mount {
    let upper = directory.join(UPPER);
    if lower.is_empty() {
        return Mount::bind(&upper, false);
    }
    let mut options = vec![
        lowerdir(lower),
        format!("upperdir={}", escape(&upper)),
        format!("workdir={}", escape(&directory.join(WORK))),
    ];
    options.extend(more.iter().map(ToString::to_string));
    overlay(options)
}

fn overlay(options: Vec<String>) -> Mount {
    Mount { fs_type: "overlay".to_owned(), source: "overlay".to_owned(), options }
}

fn lowerdir(lower: &[PathBuf]) -> String {
    let escaped: Vec<String> = lower.iter().map(|path| escape(path)).collect();
    format!("lowerdir={}", escaped.join(":"))
}

/// The root directory of the merged tree is the upper one, so it must look like the image's.
pub(crate) fn fill(directory: &Path, lower: &[PathBuf]) -> Result<()> {
    let (upper, work) = (directory.join(UPPER), directory.join(WORK));
    for dir in [&upper, &work] {
        std::fs::create_dir(dir).map_err(|e| Error::path("mkdir", dir, e))?;
    }
    let (mode, uid, gid) = match lower.first() {
        None => (0o755, 0, 0),
        Some(top) => {
            let meta = std::fs::metadata(top).map_err(|e| Error::path("stat", top, e))?;
            (meta.mode() & 0o7777, meta.uid(), meta.gid())
        }
    };
    std::os::unix::fs::chown(&upper, Some(uid), Some(gid)).map_err(|e| Error::path("chown", &upper, e))?;
    std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(mode))
        .map_err(|e| Error::path("chmod", &upper, e))
}

impl Snapshotter for Overlay {
    fn prepare(&self, key: &str, parent: Option<&Digest>, access: Access) -> Result<Vec<Mount>> {
        let wanted = Record { parent: parent.cloned(), access };
        let lower = self.layers.roots(parent)?;
        self.shelf.ensure(key, &wanted, |directory| fill(directory, &lower))?;
        if let Some(parent) = parent {
            self.layers.touch(parent)?;
        }
        self.mounts_of(key, &wanted, &lower)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let record = self.shelf.expect(key)?;
        self.mounts_of(key, &record, &self.layers.roots(record.parent.as_ref())?)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.shelf.remove(key)
    }

    fn writes(&self, key: &str) -> Result<(PathBuf, Option<Digest>)> {
        let record = self.shelf.expect(key)?;
        Ok((self.shelf.path(key)?.join(UPPER), record.parent))
    }

    fn parent(&self, key: &str) -> Option<Digest> {
        self.shelf.record(key).ok().flatten().and_then(|record| record.parent)
    }

    fn walk(&self) -> Result<Vec<(String, Option<Digest>)>> {
        self.shelf.walk()
    }

    fn usage(&self, key: &str) -> Result<(u64, u64)> {
        self.shelf.expect(key)?;
        usage_of(&self.shelf.path(key)?.join(UPPER))
    }
}
