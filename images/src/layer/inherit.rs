//! Directories that a layer uses without describing them look as in the layers beneath.
//!
//! overlayfs shows the topmost directory's owner and mode, so a made-up 0755 would open what the base image had
//! closed. This is the only way in which an unpacked layer depends on its parents, and the reason why it is kept
//! by chain id.

use crate::erofs::{Reader, Tree};
use crate::error::{Error, Result};
use crate::layer::directory::{OPAQUE, apply_directory, is_whiteout, open_in_root};
use crate::layer::entry::{Meta, TreePath};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where no layer beneath has the directory. The time is fixed, so that unpacking twice gives the same tree.
const MADE_UP: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };

/// A layer beneath, as it is held.
#[derive(Debug)]
pub(crate) enum Below {
    Directory(OwnedFd),
    Image(Reader),
}

impl Below {
    pub(crate) fn directory(path: &Path) -> Result<Self> {
        open_root(path).map(Self::Directory)
    }

    pub(crate) fn image(path: &Path) -> Result<Self> {
        Reader::open(path).map(Self::Image)
    }

    fn look(&self, path: &TreePath) -> Result<Seen> {
        match self {
            Self::Directory(root) => look(root, path),
            Self::Image(reader) => reader.look(path),
        }
    }
}

/// Completes an unpacked layer. `parents` are the layers beneath, the topmost first.
pub(crate) fn inherit(layer: &Path, implicit: &[TreePath], parents: &[Below]) -> Result<()> {
    let root = open_root(layer)?;
    for path in implicit.iter().rev() {
        let meta = lookup(parents, path)?.unwrap_or(MADE_UP);
        let dir = open_in_root(&root, path, OFlags::RDONLY | OFlags::DIRECTORY);
        let dir = dir.map_err(|e| Error::io(format_args!("open {path}"), e))?;
        apply_directory(&dir, &meta).map_err(|error| error.context(path))?;
    }
    Ok(())
}

/// The same for a layer whose tree is still in memory.
pub(crate) fn inherit_tree(tree: &mut Tree, parents: &[Below]) -> Result<()> {
    for (path, id) in tree.implicit() {
        let meta = lookup(parents, &path)?.unwrap_or(MADE_UP);
        tree.set_meta(id, meta);
    }
    Ok(())
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::path("open", path, e))
}

/// What overlayfs would show at this path in a stack of layers.
pub(crate) fn lookup(parents: &[Below], path: &TreePath) -> Result<Option<Meta>> {
    for layer in parents {
        match layer.look(path)? {
            Seen::Directory(meta) => return Ok(Some(meta)),
            Seen::Hidden => return Ok(None),
            Seen::Nothing => {}
        }
    }
    Ok(None)
}

/// What one layer says about a path.
#[derive(Debug)]
pub(crate) enum Seen {
    Directory(Meta),
    /// Deleted or replaced here: the layers further down do not count.
    Hidden,
    Nothing,
}

/// Walks one layer part by part, since any part may be hidden.
fn look(root: &OwnedFd, path: &TreePath) -> Result<Seen> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |e| Error::io(format_args!("look up {path}"), e);
    let mut opaque = false;
    let mut dir = rustix::fs::openat(root, ".", flags, Mode::empty()).map_err(failed)?;
    for part in path.parts() {
        opaque |= has_opaque(&dir);
        dir = match rustix::fs::openat(&dir, part, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(if opaque { Seen::Hidden } else { Seen::Nothing }),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(Seen::Hidden),
            Err(error) => return Err(failed(error)),
        };
    }
    meta_of(&dir).map(Seen::Directory)
}

pub(crate) fn has_opaque(dir: impl AsFd) -> bool {
    let mut value = [0u8; 8];
    matches!(rustix::fs::fgetxattr(dir, OPAQUE, &mut value), Ok(1..)) && value.first() == Some(&b'y')
}

pub(crate) fn meta_of(dir: &OwnedFd) -> Result<Meta> {
    let stat = rustix::fs::fstat(dir).map_err(|e| Error::io("fstat", e))?;
    debug_assert!(!is_whiteout(&stat) && FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Ok(Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, nanos),
        xattrs: xattrs_of(dir)?,
    })
}

/// All attributes that a layer may carry.
pub(crate) fn xattrs_of(file: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let failed = |e| Error::io("list extended attributes", e);
    let mut names = vec![0u8; 64 << 10];
    let length = match rustix::fs::flistxattr(&file, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    let mut found = Vec::new();
    for name in names.filter(|name| !name.is_empty() && !name.starts_with(b"trusted.overlay.")) {
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).map_err(failed)?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    Ok(found)
}
