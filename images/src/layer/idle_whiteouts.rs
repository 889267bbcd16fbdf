//! Takes away whiteouts that hide nothing.
//!
//! overlayfs leaves whiteouts out only where it merges directories. In a directory that no layer beneath has, or that
//! hides what they have, a whiteout stays visible as a name that nobody can open: `ls` shows question marks, `rm -r`
//! fails. Such archives exist (a file that was made and deleted again while an image was built), so this is done when a
//! layer's parents are known.

use crate::erofs::Tree;
use crate::error::{Error, Result};
use crate::layer::directory::is_whiteout;
use crate::layer::entry::TreePath;
use crate::layer::inherit::{Below, has_opaque, lookup};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whether overlayfs will merge a directory of this layer with one beneath.
fn merges(above: bool, opaque: bool, path: &TreePath, parents: &[Below]) -> Result<bool> {
    Ok(above && !opaque && lookup(parents, path)?.is_some())
}

/// For a layer that is a directory. Nobody else writes to it yet, so paths are safe.
pub(crate) fn drop_in_directory(layer: &Path, parents: &[Below]) -> Result<()> {
    let mut pending: Vec<(PathBuf, TreePath, bool)> =
        vec![(layer.to_owned(), TreePath::default(), !parents.is_empty())];
    while let Some((directory, path, above)) = pending.pop() {
        let failed = |e: std::io::Error| Error::path("readdir", &directory, e);
        let opaque = has_opaque(File::open(&directory).map_err(failed)?);
        let merged = merges(above, opaque, &path, parents)?;
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                pending.push((entry.path(), path.join(entry.file_name().as_bytes()), merged));
            } else if !merged {
                let stat = rustix::fs::lstat(entry.path()).map_err(|e| failed(e.into()))?;
                if is_whiteout(&stat) {
                    std::fs::remove_file(entry.path()).map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

/// For a layer whose tree is still in memory.
pub(crate) fn drop_in_tree(tree: &mut Tree, parents: &[Below]) -> Result<()> {
    let mut pending = vec![(Tree::ROOT, TreePath::default(), !parents.is_empty())];
    while let Some((id, path, above)) = pending.pop() {
        let merged = merges(above, tree.is_opaque(id), &path, parents)?;
        if !merged {
            tree.drop_whiteouts(id);
        }
        for (name, child) in tree.directories(id) {
            pending.push((child, path.join(&name), merged));
        }
    }
    Ok(())
}
