//! Writes inodes, directories and the superblock behind the contents (Linux, fs/erofs/erofs_fs.h).

use crate::erofs::sink::BLOCK;
use crate::erofs::tree::{Body, Children, Node, Tree};
use crate::erofs::xattr;
use crate::error::{Error, Result};
use crate::layer::directory::OPAQUE;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
pub(super) const SUPERBLOCK: u64 = 1024;
const BLOCK_BITS: u8 = 9;
/// Inode numbers count slots of 32 bytes from the start of the inodes.
pub(super) const SLOT: u64 = 32;
pub(super) const INODE: u64 = 64;
/// 64-byte inode, contents in one run of blocks.
const FORMAT_EXTENDED_PLAIN: u16 = 1;
pub(super) const DIRENT: usize = 12;

/// Completes an image whose contents are written.
pub(crate) fn write(path: &Path, tree: &Tree) -> Result<()> {
    let file = File::options().write(true).open(path).map_err(|e| Error::path("open", path, e))?;
    write_to(&file, tree)
}

/// The same for a file that may have no name.
pub(super) fn write_to(file: &File, tree: &Tree) -> Result<()> {
    let layout = Layout::of(tree)?;
    let mut out = Out { file, at: layout.meta, bytes: Vec::with_capacity(PIECE) };
    for id in &layout.order {
        let place = layout.place(*id)?;
        out.go_to(layout.meta + place.inode)?;
        inode(&mut out.bytes, tree.node(*id)?, place)?;
    }
    for id in &layout.order {
        let place = layout.place(*id)?;
        if let Some(content) = content(tree, &layout, *id)? {
            out.go_to(u64::from(place.block) * BLOCK)?;
            out.bytes.extend(content);
        }
    }
    out.go_to(layout.end)?;
    out.flush()?;
    let failed = |e| Error::io("write layer image", e);
    file.write_all_at(&superblock(&layout)?, SUPERBLOCK).map_err(failed)
}

/// So many bytes are written at once.
const PIECE: usize = 256 << 10;

/// Writes one behind the other, so that no layer's inodes are in memory as a whole.
struct Out<'f> {
    file: &'f File,
    /// Where `bytes` begin.
    at: u64,
    bytes: Vec<u8>,
}

impl Out<'_> {
    /// Fills up with zeros until there, which is never behind.
    fn go_to(&mut self, place: u64) -> Result<()> {
        if self.bytes.len() >= PIECE {
            self.flush()?;
        }
        let length = place.checked_sub(self.at).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length >= self.bytes.len());
        self.bytes.resize(length.ok_or_else(|| Error::invalid("layer tree is broken"))?, 0);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all_at(&self.bytes, self.at).map_err(|e| Error::io("write layer image", e))?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Where one inode goes, and what only the whole tree knows about it.
#[derive(Debug, Default)]
struct Place {
    /// From the start of the inodes.
    inode: u64,
    xattr_count: u16,
    /// None where it has no name any more.
    links: u32,
    parent: u32,
    /// First block and bytes of its contents.
    block: u32,
    size: u64,
}

struct Layout {
    /// Inodes in the order in which they lie.
    order: Vec<u32>,
    /// By their place in the tree.
    places: Vec<Place>,
    meta: u64,
    end: u64,
}

impl Layout {
    fn place(&self, id: u32) -> Result<&Place> {
        let place = self.places.get(id as usize).filter(|place| place.links > 0);
        place.ok_or_else(|| Error::invalid("layer tree is broken"))
    }

    fn place_mut(&mut self, id: u32) -> Result<&mut Place> {
        self.places.get_mut(id as usize).ok_or_else(|| Error::invalid("layer tree is broken"))
    }

    fn nid(&self, id: u32) -> Result<u64> {
        Ok(self.place(id)?.inode / SLOT)
    }

    /// Every inode that still has a name, breadth first: the inodes of one directory lie together.
    fn of(tree: &Tree) -> Result<Self> {
        let meta = tree.end.next_multiple_of(4096);
        let mut places = Vec::new();
        places.resize_with(tree.nodes.len(), Place::default);
        let mut layout = Self { order: Vec::with_capacity(places.len()), places, meta, end: 0 };
        layout.order.push(0);
        layout.place_mut(0)?.links = 2;
        let mut next = 0;
        while let Some(id) = layout.order.get(next).copied() {
            next += 1;
            if let Body::Directory { children, .. } = &tree.node(id)?.body {
                layout.adopt(tree, id, children)?;
            }
        }
        layout.place_inodes(tree)?;
        layout.place_contents(tree)?;
        Ok(layout)
    }

    fn adopt(&mut self, tree: &Tree, parent: u32, children: &Children) -> Result<()> {
        for child in children.values() {
            let is_directory = matches!(tree.node(*child)?.body, Body::Directory { .. });
            if is_directory {
                self.place_mut(parent)?.links += 1;
            }
            let place = self.place_mut(*child)?;
            if place.links > 0 {
                place.links += 1;
                continue;
            }
            (place.parent, place.links) = (parent, if is_directory { 2 } else { 1 });
            self.order.push(*child);
        }
        Ok(())
    }

    fn place_inodes(&mut self, tree: &Tree) -> Result<()> {
        // Number 0 means "no inode" to some readers of directories.
        let mut at = INODE;
        for id in &self.order {
            let xattrs = xattrs(tree.node(*id)?)?;
            let Some(place) = self.places.get_mut(*id as usize) else { continue };
            place.xattr_count = xattr::count(&xattrs)?;
            place.inode = at;
            at = (at + INODE + xattrs.len() as u64).next_multiple_of(INODE);
        }
        self.end = self.meta + at.next_multiple_of(BLOCK);
        Ok(())
    }

    fn place_contents(&mut self, tree: &Tree) -> Result<()> {
        for id in &self.order {
            let Some(place) = self.places.get_mut(*id as usize) else { continue };
            match &tree.node(*id)?.body {
                Body::File { block, size } => (place.block, place.size) = (*block, *size),
                Body::Directory { children, .. } => place.size = directory_size(children),
                Body::Symlink(target) => place.size = target.len() as u64,
                Body::CharDevice(..) | Body::BlockDevice(..) | Body::Fifo => {}
            }
            if matches!(tree.node(*id)?.body, Body::Directory { .. } | Body::Symlink(_)) {
                let block = u32::try_from(self.end / BLOCK);
                place.block = block.map_err(|_| Error::invalid("layer is too large for one image"))?;
                self.end += place.size.next_multiple_of(BLOCK);
            }
        }
        Ok(())
    }
}

/// What follows an inode.
fn xattrs(node: &Node) -> Result<Vec<u8>> {
    let own = node.meta.xattrs.iter().map(|(name, value)| (&name[..], &value[..]));
    let opaque = matches!(node.body, Body::Directory { opaque: true, .. });
    xattr::encode(own.chain(opaque.then_some((OPAQUE.as_bytes(), &b"y"[..]))))
}

fn superblock(layout: &Layout) -> Result<Vec<u8>> {
    let too_large = |_| Error::invalid("layer is too large for one image");
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(MAGIC.to_le_bytes());
    // No checksum, no compatible features.
    bytes.extend([0; 8]);
    bytes.push(BLOCK_BITS);
    bytes.push(0);
    bytes.extend(u16::try_from(layout.nid(0)?).map_err(too_large)?.to_le_bytes());
    bytes.extend((layout.order.len() as u64).to_le_bytes());
    // Times are in the inodes.
    bytes.extend([0; 12]);
    bytes.extend(u32::try_from(layout.end / BLOCK).map_err(too_large)?.to_le_bytes());
    bytes.extend(u32::try_from(layout.meta / BLOCK).map_err(too_large)?.to_le_bytes());
    // No shared attributes, no identity, no incompatible features, no other devices.
    bytes.resize(128, 0);
    Ok(bytes)
}

fn inode(bytes: &mut Vec<u8>, node: &Node, place: &Place) -> Result<()> {
    let (kind, device): (u32, u32) = match &node.body {
        Body::Directory { .. } => (libc_mode::DIRECTORY, 0),
        Body::File { .. } => (libc_mode::FILE, 0),
        Body::Symlink(_) => (libc_mode::SYMLINK, 0),
        Body::CharDevice(major, minor) => (libc_mode::CHAR, encode_device(*major, *minor)),
        Body::BlockDevice(major, minor) => (libc_mode::BLOCK, encode_device(*major, *minor)),
        Body::Fifo => (libc_mode::FIFO, 0),
    };
    // Links have no permissions of their own; everything shows 0777.
    let permissions = if kind == libc_mode::SYMLINK { 0o777 } else { node.meta.mode & 0o7777 };
    let mode = u16::try_from(kind | permissions).unwrap_or(0);
    bytes.extend(FORMAT_EXTENDED_PLAIN.to_le_bytes());
    bytes.extend(place.xattr_count.to_le_bytes());
    bytes.extend(mode.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(place.size.to_le_bytes());
    bytes.extend((if device == 0 { place.block } else { device }).to_le_bytes());
    bytes.extend(u32::try_from(place.inode / SLOT).unwrap_or(0).to_le_bytes());
    bytes.extend(node.meta.uid.to_le_bytes());
    bytes.extend(node.meta.gid.to_le_bytes());
    bytes.extend(node.meta.mtime.0.to_le_bytes());
    bytes.extend(node.meta.mtime.1.to_le_bytes());
    bytes.extend(place.links.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(xattrs(node)?);
    Ok(())
}

/// The file types of st_mode.
mod libc_mode {
    pub(super) const FIFO: u32 = 0o010_000;
    pub(super) const CHAR: u32 = 0o020_000;
    pub(super) const DIRECTORY: u32 = 0o040_000;
    pub(super) const BLOCK: u32 = 0o060_000;
    pub(super) const FILE: u32 = 0o100_000;
    pub(super) const SYMLINK: u32 = 0o120_000;
}

/// The kernel's 32-bit form: twelve bits of major inside twenty of minor.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// What lies in blocks of its own: directory entries and link targets.
fn content(tree: &Tree, layout: &Layout, id: u32) -> Result<Option<Vec<u8>>> {
    match &tree.node(id)?.body {
        Body::Symlink(target) => Ok(Some(target.clone())),
        Body::Directory { children, .. } => directory(tree, layout, id, children).map(Some),
        _ => Ok(None),
    }
}

/// The names of a directory with its two own ones, sorted by their bytes, split so that each group fills one block.
fn groups(children: &Children) -> Vec<Vec<&[u8]>> {
    let mut names: Vec<&[u8]> = children.keys().map(AsRef::as_ref).chain([&b"."[..], b".."]).collect();
    names.sort_unstable();
    let mut groups: Vec<Vec<&[u8]>> = Vec::new();
    let mut used = usize::MAX;
    for name in names {
        let size = DIRENT + name.len();
        if used.saturating_add(size) > BLOCK as usize {
            groups.push(Vec::new());
            used = 0;
        }
        used += size;
        groups.last_mut().into_iter().for_each(|group| group.push(name));
    }
    groups
}

fn directory_size(children: &Children) -> u64 {
    let groups = groups(children);
    let last = groups.last().map_or(0, |group| group.iter().map(|name| DIRENT + name.len()).sum());
    (groups.len().saturating_sub(1) as u64) * BLOCK + last as u64
}

/// Each block: entries of fixed size, then their names; the first entry's name offset tells how many there are.
fn directory(tree: &Tree, layout: &Layout, id: u32, children: &Children) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in groups(children) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        let mut offset = group.len() * DIRENT;
        for name in &group {
            let target = match *name {
                b"." => id,
                b".." => layout.place(id)?.parent,
                name => children.get(name).copied().unwrap_or(0),
            };
            bytes.extend(layout.nid(target)?.to_le_bytes());
            bytes.extend(u16::try_from(offset).unwrap_or(0).to_le_bytes());
            bytes.push(entry_type(&tree.node(target)?.body));
            bytes.push(0);
            offset += name.len();
        }
        for name in &group {
            bytes.write_all(name).map_err(|e| Error::io("write", e))?;
        }
    }
    Ok(bytes)
}

fn entry_type(body: &Body) -> u8 {
    match body {
        Body::File { .. } => 1,
        Body::Directory { .. } => 2,
        Body::CharDevice(..) => 3,
        Body::BlockDevice(..) => 4,
        Body::Fifo => 5,
        Body::Symlink(_) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_fill_blocks() {
        let children: Children = (0..100).map(|n| (format!("name-{n:04}").into_bytes().into(), n)).collect();
        let groups = groups(&children);
        assert!(groups.len() > 1);
        for group in &groups {
            assert!(group.iter().map(|name| DIRENT + name.len()).sum::<usize>() <= BLOCK as usize);
        }
        let flat: Vec<&[u8]> = groups.concat();
        assert!(flat.is_sorted() && flat.len() == 102);
        assert_eq!(directory_size(&Children::new()), 2 * DIRENT as u64 + 3);
    }

    #[test]
    fn devices_as_the_kernel_has_them() {
        assert_eq!(encode_device(1, 3), 0x103);
        assert_eq!(encode_device(8, 256), 0x10_0800);
    }
}
