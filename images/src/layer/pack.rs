//! Writes a directory as a tar stream: the same tree always gives the same bytes.
//!
//! Names are sorted, times are whole seconds where they can be, owners are numbers. Sockets are left out, as every
//! other tool does. The upper directory of an overlay is written as the layer it amounts to: deletions as whiteouts.

use crate::error::{Error, Result};
use crate::layer::inherit::{has_opaque, xattrs_of};
use crate::layer::whiteout::{self, Hidden};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How a tree is packed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packing<'a> {
    /// It is the upper directory of an overlay; its root is left out, for it says nothing.
    pub(crate) overlay: bool,
    /// The root directory itself is left out.
    pub(crate) rootless: bool,
    /// What is mounted beneath is left out; its mount point is there.
    pub(crate) one_file_system: bool,
    /// Left out where they are empty: places that were made to mount something at.
    pub(crate) mount_points: &'a [PathBuf],
    /// No file is newer (seconds since 1970).
    pub(crate) clamp: Option<i64>,
}

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) entries: u64,
    /// Seconds since 1970 of the newest file.
    pub(crate) newest: i64,
}

/// Packs everything beneath `root`, the root directory itself included.
pub(crate) fn pack(root: &Path, out: impl Write) -> Result<()> {
    pack_as(root, out, Packing::default()).map(drop)
}

/// The same in another way.
pub(crate) fn pack_as(root: &Path, out: impl Write, packing: Packing<'_>) -> Result<Packed> {
    let (links, result) = (HashMap::new(), Packed::default());
    let device = std::fs::metadata(root).map_err(|e| Error::path("stat", root, e))?.dev();
    let mut packer =
        Packer { builder: tar::Builder::new(out), links, root: root.to_owned(), device, packing, result };
    packer.tree(Path::new(""))?;
    packer.builder.finish().map_err(|e| Error::io("write archive", e))?;
    Ok(packer.result)
}

struct Packer<'a, W: Write> {
    builder: tar::Builder<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    root: PathBuf,
    /// The file system of the root.
    device: u64,
    packing: Packing<'a>,
    result: Packed,
}

impl<W: Write> Packer<'_, W> {
    /// Depth first, names sorted by their bytes.
    fn tree(&mut self, top: &Path) -> Result<()> {
        let mut pending = vec![top.to_owned()];
        while let Some(path) = pending.pop() {
            let source = self.root.join(&path);
            let meta = std::fs::symlink_metadata(&source).map_err(|e| Error::path("stat", &source, e))?;
            if is_bare_mount_point(&path, &source, &meta, self.packing.mount_points)? {
                continue;
            }
            self.entry(&path, &source, &meta)?;
            let elsewhere = self.packing.one_file_system && meta.dev() != self.device;
            if meta.is_dir() && !elsewhere {
                let failed = |e| Error::path("readdir", &source, e);
                let mut names = Vec::new();
                for entry in std::fs::read_dir(&source).map_err(failed)? {
                    names.push(path.join(entry.map_err(failed)?.file_name()));
                }
                names.sort_by(|a, b| b.cmp(a));
                pending.append(&mut names);
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, source: &Path, meta: &Metadata) -> Result<()> {
        let failed = |e| Error::path("pack", source, e);
        if (self.packing.overlay || self.packing.rootless) && path.as_os_str().is_empty() {
            return Ok(());
        }
        if self.packing.overlay
            && let Some(hidden) = whiteout::hidden_by(path, meta)
        {
            return match hidden {
                Hidden::Path(hidden) => self.mark(&whiteout::of(&hidden)),
                Hidden::Beneath => self.mark(path),
            };
        }
        let mut header = self.header(meta);
        let name = if path.as_os_str().is_empty() { Path::new("./") } else { path };
        if meta.nlink() > 1 && !meta.is_dir() {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())).cloned() {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                return self.builder.append_link(&mut header, name, first).map_err(failed);
            }
            self.links.insert((meta.dev(), meta.ino()), path.to_owned());
        }
        let kind = meta.file_type();
        if kind.is_file() {
            let file = File::open(source).map_err(failed)?;
            self.extensions(meta, Some(&file)).map_err(|error| error.context(source.display()))?;
            return self.builder.append_data(&mut header, name, file).map_err(failed);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(source).map_err(failed)?;
            self.extensions(meta, None)?;
            return self.builder.append_link(&mut header, name, target).map_err(failed);
        }
        if kind.is_dir() {
            let dir = File::open(source).map_err(failed)?;
            self.extensions(meta, Some(&dir))?;
            let mut slashed = name.as_os_str().as_bytes().to_vec();
            if !slashed.ends_with(b"/") {
                slashed.push(b'/');
            }
            self.builder.append_data(&mut header, OsStr::from_bytes(&slashed), &[][..]).map_err(failed)?;
            let opaque = self.packing.overlay && has_opaque(&dir) && !whiteout::opaque_in(source).exists();
            return if opaque { self.mark(&whiteout::opaque_in(path)) } else { Ok(()) };
        }
        if kind.is_socket() {
            return Ok(());
        }
        let device = meta.rdev();
        header.set_device_major(rustix::fs::major(device)).map_err(failed)?;
        header.set_device_minor(rustix::fs::minor(device)).map_err(failed)?;
        self.builder.append_data(&mut header, name, &[][..]).map_err(failed)
    }

    /// An empty file whose name says that something is gone.
    fn mark(&mut self, name: &Path) -> Result<()> {
        self.result.entries += 1;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(0);
        self.builder.append_data(&mut header, name, &[][..]).map_err(|e| Error::path("pack", name, e))
    }

    fn header(&mut self, meta: &Metadata) -> tar::Header {
        let mut header = header(meta);
        let mtime = self.packing.clamp.map_or(meta.mtime(), |clamp| meta.mtime().min(clamp)).max(0);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        self.result.entries += 1;
        self.result.newest = self.result.newest.max(mtime);
        header
    }

    /// What only PAX can say: extended attributes.
    fn extensions(&mut self, meta: &Metadata, file: Option<&File>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let xattrs = xattrs_of(file)?;
        debug_assert!(meta.is_file() || meta.is_dir());
        let named: Vec<(String, Vec<u8>)> = xattrs
            .into_iter()
            .filter_map(|(name, value)| {
                Some((format!("SCHILY.xattr.{}", String::from_utf8(name).ok()?), value))
            })
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let records = named.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records).map_err(|e| Error::io("write archive", e))
    }
}

/// An empty file or directory at a place where something was mounted.
pub(crate) fn is_bare_mount_point(
    path: &Path,
    source: &Path,
    meta: &Metadata,
    mount_points: &[PathBuf],
) -> Result<bool> {
    if !mount_points.iter().any(|place| place.strip_prefix("/").unwrap_or(place) == path) {
        return Ok(false);
    }
    if meta.is_dir() {
        let mut names = std::fs::read_dir(source).map_err(|e| Error::path("readdir", source, e))?;
        return Ok(names.next().is_none());
    }
    Ok(meta.is_file() && meta.len() == 0)
}

fn header(meta: &Metadata) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let kind = meta.file_type();
    header.set_entry_type(if kind.is_dir() {
        tar::EntryType::Directory
    } else if kind.is_symlink() {
        tar::EntryType::Symlink
    } else if kind.is_char_device() {
        tar::EntryType::Char
    } else if kind.is_block_device() {
        tar::EntryType::Block
    } else if kind.is_fifo() {
        tar::EntryType::Fifo
    } else {
        tar::EntryType::Regular
    });
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(u64::from(meta.uid()));
    header.set_gid(u64::from(meta.gid()));
    header.set_size(if kind.is_file() { meta.len() } else { 0 });
    header
}
