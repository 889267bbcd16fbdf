//! Looks up directories in an image that was written here, without mounting it: while a layer is pulled, the layers
//! beneath it need no mount, no privilege and no kernel that knows EROFS.
//!
//! Every offset is checked all the same: a broken disk must end in an error, not in a loop or a wild read.

use crate::erofs::image::{DIRENT, INODE, MAGIC, SLOT, SUPERBLOCK};
use crate::erofs::sink::BLOCK;
use crate::erofs::xattr;
use crate::error::{Error, Result};
use crate::layer::entry::{Meta, TreePath};
use crate::layer::inherit::Seen;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const DIRECTORY: u16 = 0o040_000;
const TYPE: u16 = 0o170_000;
/// A larger directory or attribute area was not written here.
const MAX_PART: u64 = 256 << 20;

/// One open image.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
    /// Where the inodes start.
    meta: u64,
    root: u64,
}

struct Inode {
    mode: u16,
    block: u32,
    size: u64,
    meta: Meta,
    opaque: bool,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::path("open", path, e))?;
        let mut reader = Self { path: path.to_owned(), file, meta: 0, root: 0 };
        let bytes = reader.bytes(SUPERBLOCK, 128)?;
        if le32(&bytes, 0) != MAGIC {
            return Err(reader.broken());
        }
        reader.root = u64::from(le16(&bytes, 14));
        reader.meta = u64::from(le32(&bytes, 40)) * BLOCK;
        Ok(reader)
    }

    fn broken(&self) -> Error {
        Error::invalid(format!("{}: is no layer image of ours", self.path.display()))
    }

    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        if length > MAX_PART {
            return Err(self.broken());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| self.broken())?];
        self.file.read_exact_at(&mut bytes, at).map_err(|e| Error::path("read", &self.path, e))?;
        Ok(bytes)
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let at = number.checked_mul(SLOT).and_then(|at| at.checked_add(self.meta));
        let at = at.ok_or_else(|| self.broken())?;
        let bytes = self.bytes(at, INODE)?;
        let area = xattr::area(le16(&bytes, 2));
        let (xattrs, opaque) = xattr::decode(&self.bytes(at + INODE, area)?);
        let mode = le16(&bytes, 4);
        let meta = Meta {
            mode: u32::from(mode & 0o7777),
            uid: le32(&bytes, 24),
            gid: le32(&bytes, 28),
            mtime: (le64(&bytes, 32).cast_signed(), le32(&bytes, 40)),
            xattrs,
        };
        Ok(Inode { mode, block: le32(&bytes, 16), size: le64(&bytes, 8), meta, opaque })
    }

    /// The number of a directory's entry.
    fn child(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let bytes = self.bytes(u64::from(directory.block) * BLOCK, directory.size)?;
        for block in bytes.chunks(BLOCK as usize) {
            let count = usize::from(le16(block, 8)) / DIRENT;
            let offset = |entry: usize| match entry < count {
                true => usize::from(le16(block, entry * DIRENT + 8)),
                false => block.len(),
            };
            for entry in 0..count {
                let found = block.get(offset(entry)..offset(entry + 1)).ok_or_else(|| self.broken())?;
                // Behind the last name of a block there are zeros.
                let end = found.iter().position(|byte| *byte == 0).unwrap_or(found.len());
                if found.get(..end) == Some(name) {
                    return Ok(Some(le64(block, entry * DIRENT)));
                }
            }
        }
        Ok(None)
    }

    /// What this layer says about a path, part by part, since any part may be hidden.
    pub(crate) fn look(&self, path: &TreePath) -> Result<Seen> {
        let mut here = self.inode(self.root)?;
        let mut opaque = false;
        for part in path.parts() {
            opaque |= here.opaque;
            let Some(number) = self.child(&here, part)? else {
                return Ok(if opaque { Seen::Hidden } else { Seen::Nothing });
            };
            here = self.inode(number)?;
            if here.mode & TYPE != DIRECTORY {
                return Ok(Seen::Hidden);
            }
        }
        Ok(Seen::Directory(here.meta))
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(part(bytes, at))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(part(bytes, at))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::{ErofsSink, write};
    use crate::layer::archive_builder::{ArchiveBuilder, Item};
    use crate::layer::limits::Limits;
    use crate::layer::unpack::unpack;

    fn image(items: &[Item]) -> (tempfile::TempDir, Reader) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut sink = ErofsSink::new(&path).unwrap();
        let archive = ArchiveBuilder::of(items);
        let unpacked = unpack(&archive[..], Limits::default(), &mut sink).unwrap();
        drop(sink);
        write(&path, &unpacked.tree.unwrap()).unwrap();
        let reader = Reader::open(&path).unwrap();
        (dir, reader)
    }

    #[test]
    fn finds_what_was_written() {
        let many = (0..300).map(|n| Item::dir(&format!("many/{n:03}"), 0o755));
        let few = [
            Item::dir("secret", 0o700).owner(7, 8).mtime(5).xattr("user.note", b"hi"),
            Item::file("file", "x"),
            Item::file("o/.wh..wh..opq", ""),
            Item::file(".wh.gone", ""),
            Item::file("large", &"x".repeat(3000)),
        ];
        let (_dir, reader) = image(&few.into_iter().chain(many).collect::<Vec<_>>());
        let look = |path: &str| reader.look(&TreePath::clean(path.as_bytes())).unwrap();
        let Seen::Directory(meta) = look("secret") else { panic!("a directory") };
        assert_eq!((meta.mode, meta.uid, meta.gid, meta.mtime), (0o700, 7, 8, (5, 0)));
        assert_eq!(meta.xattrs, [(b"user.note".to_vec(), b"hi".to_vec())]);
        assert!(matches!(look("file"), Seen::Hidden) && matches!(look("gone/x"), Seen::Hidden));
        assert!(matches!(look("o/below"), Seen::Hidden), "opaque");
        assert!(matches!(look("nowhere/x"), Seen::Nothing));
        for n in [0, 150, 299] {
            assert!(matches!(look(&format!("many/{n:03}")), Seen::Directory(_)), "{n}");
        }
        assert!(matches!(look("many/300"), Seen::Nothing));
    }

    #[test]
    fn broken_images_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for bytes in [vec![], vec![0; 5000], vec![0xff; 5000]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Reader::open(&path).is_err());
        }
        let (dir, _) = image(&[Item::dir("a/b", 0o755)]);
        let path = dir.path().join("image");
        let whole = std::fs::read(&path).unwrap();
        for at in 1024..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            std::fs::write(&path, broken).unwrap();
            // Whatever it answers, it ends.
            let _ = Reader::open(&path).map(|reader| reader.look(&TreePath::clean(b"a/b/c")).is_ok());
        }
    }
}
