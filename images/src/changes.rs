//! What a snapshot changed against its image, in the words of `docker diff`.

use crate::build::tree::Tree;
use crate::build::workspace::with_workspace;
use crate::error::{Error, Result};
use crate::layer::entry::TreePath;
use crate::layer::inherit::has_opaque;
use crate::layer::pack::is_bare_mount_point;
use crate::layer::whiteout::{Hidden, hidden_by};
use crate::store::parts::Parts;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was not there.
    Added,
    /// It, or something in it, is different.
    Changed,
    /// It is not there any more.
    Deleted,
}

/// Absolute paths in order. `mount_points` were made by the runtime and count only if they have contents.
pub(crate) fn changes(parts: &Parts, key: &str, mount_points: &[PathBuf]) -> Result<Vec<(PathBuf, Change)>> {
    let (upper, parent) = parts.snapshots.writes(key)?;
    with_workspace(parts, parent.as_ref(), |workspace| walk(&upper, &workspace.tree()?, mount_points))
}

fn walk(upper: &Path, image: &Tree, mount_points: &[PathBuf]) -> Result<Vec<(PathBuf, Change)>> {
    let mut found: BTreeMap<PathBuf, Change> = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let here = upper.join(&path);
        for entry in std::fs::read_dir(&here).map_err(|e| Error::path("readdir", &here, e))? {
            let entry = entry.map_err(|e| Error::path("readdir", &here, e))?;
            let (mut path, source) = (path.join(entry.file_name()), entry.path());
            // A running container may have removed it since.
            let Ok(meta) = entry.metadata() else { continue };
            if is_bare_mount_point(&path, &source, &meta, mount_points)? {
                continue;
            }
            let change = match hidden_by(&path, &meta) {
                Some(Hidden::Beneath) => None,
                Some(Hidden::Path(hidden)) => {
                    path = hidden;
                    Some(Change::Deleted)
                }
                None => judge(&path, &source, &meta, image)?,
            };
            if let Some(change) = change {
                for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                    found.entry(Path::new("/").join(above)).or_insert(Change::Changed);
                }
                found.insert(Path::new("/").join(&path), change);
            }
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// None for a directory that is there only because of what is in it.
fn judge(path: &Path, source: &Path, meta: &Metadata, image: &Tree) -> Result<Option<Change>> {
    let Some(old) = image.there(&TreePath::clean(path.as_os_str().as_bytes()))? else {
        return Ok(Some(Change::Added));
    };
    if !(meta.is_dir() && old.is_dir()) {
        return Ok(Some(Change::Changed));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(source, flags, Mode::empty()).map_err(|e| Error::path("open", source, e))?;
    let same = (old.stat.st_mode, old.stat.st_uid, old.stat.st_gid) == (meta.mode(), meta.uid(), meta.gid());
    Ok((!same || has_opaque(&dir)).then_some(Change::Changed))
}
