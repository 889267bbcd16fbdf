//! Takes a layer's entries: contents go to the image file, everything else into the tree.

use crate::erofs::tree::{Body, Tree};
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, Kind};
use crate::layer::limits::check_free_space;
use crate::layer::unpack::{LayerSink, Unpacked};
use crate::layer::writeback::Writeback;
use std::fs::File;
use std::io::{BufRead, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// Where the contents start.
pub(super) const START: u64 = 4096;
pub(crate) const BLOCK: u64 = 512;
const BUFFER: usize = 1 << 20;
const SPACE_CHECK: u64 = 64 << 20;

/// Writes one layer into a new file.
#[derive(Debug)]
pub(crate) struct ErofsSink {
    file: BufWriter<File>,
    position: u64,
    checked: u64,
    writeback: Writeback,
    tree: Tree,
    result: Unpacked,
}

impl ErofsSink {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let file = File::options().write(true).create_new(true).open(path);
        let file = file.map_err(|e| Error::path("create", path, e))?;
        check_free_space(&file)?;
        let mut file = BufWriter::with_capacity(BUFFER, file);
        file.seek(SeekFrom::Start(START)).map_err(|e| Error::path("lseek", path, e))?;
        Ok(Self {
            file,
            position: START,
            checked: START,
            writeback: Writeback::default(),
            tree: Tree::new(),
            result: Unpacked::default(),
        })
    }

    fn contents(&mut self, size: u64, sparse: Option<&[(u64, u64)]>, data: &mut dyn BufRead) -> Result<u32> {
        let start = self.position;
        let too_large = || Error::invalid("layer is too large for one image");
        let block = u32::try_from(start / BLOCK).map_err(|_| too_large())?;
        // Every part of a sparse file lies before its end, so that no sum below can overflow.
        let end = start.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK));
        let end = end.filter(|end| u32::try_from(end / BLOCK).is_ok()).ok_or_else(too_large)?;
        match sparse {
            None => self.copy(data, size)?,
            Some(parts) => {
                for (offset, length) in parts {
                    self.skip_to(start + offset)?;
                    self.copy(data, *length)?;
                }
            }
        }
        self.skip_to(end)?;
        Ok(block)
    }

    fn copy(&mut self, data: &mut dyn BufRead, mut left: u64) -> Result<()> {
        while left > 0 {
            let available = data.fill_buf().map_err(|e| Error::io("read", e))?;
            let count = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(Error::invalid("truncated archive"));
            }
            let piece = available.get(..count).unwrap_or_default();
            self.file.write_all(piece).map_err(|e| Error::io("write", e))?;
            data.consume(count);
            self.position += count as u64;
            left -= count as u64;
        }
        self.writeback.reached(self.file.get_ref(), self.position.saturating_sub(BUFFER as u64));
        if self.position - self.checked >= SPACE_CHECK {
            self.checked = self.position;
            check_free_space(self.file.get_ref())?;
        }
        Ok(())
    }

    /// Padding is written; a real hole is skipped.
    fn skip_to(&mut self, position: u64) -> Result<()> {
        let gap = position - self.position;
        if gap < BLOCK {
            let zeros = [0u8; BLOCK as usize];
            let padding = zeros.get(..usize::try_from(gap).unwrap_or(0)).unwrap_or_default();
            self.file.write_all(padding).map_err(|e| Error::io("write", e))?;
        } else {
            self.file.seek(SeekFrom::Start(position)).map_err(|e| Error::io("lseek", e))?;
        }
        self.position = position;
        Ok(())
    }
}

impl LayerSink for ErofsSink {
    fn entry(&mut self, entry: Entry, content: &mut dyn BufRead, _position: u64) -> Result<()> {
        let Entry { path, meta, kind } = entry;
        path.check_lengths()?;
        match kind {
            Kind::Directory => self.tree.directory(&path, meta),
            Kind::File { size, sparse } => {
                let block = self.contents(size, sparse.as_deref(), content)?;
                self.result.bytes = self.result.bytes.saturating_add(size);
                self.tree.leaf(&path, meta, Body::File { block, size })
            }
            Kind::Symlink(target) => self.tree.leaf(&path, meta, Body::Symlink(target)),
            Kind::Hardlink(target) => self.tree.hardlink(&path, &target),
            Kind::CharDevice(major, minor) => self.tree.leaf(&path, meta, Body::CharDevice(major, minor)),
            Kind::BlockDevice(major, minor) => self.tree.leaf(&path, meta, Body::BlockDevice(major, minor)),
            Kind::Fifo => self.tree.leaf(&path, meta, Body::Fifo),
            Kind::Whiteout => {
                self.result.whiteouts = true;
                self.tree.whiteout(&path)
            }
            Kind::Opaque => self.tree.opaque(&path),
        }
    }

    fn finish(&mut self) -> Result<Unpacked> {
        self.file.flush().map_err(|e| Error::io("write", e))?;
        let mut tree = std::mem::replace(&mut self.tree, Tree::new());
        tree.end = self.position;
        let mut result = std::mem::take(&mut self.result);
        result.inodes = tree.nodes.len() as u64;
        result.tree = Some(Box::new(tree));
        Ok(result)
    }
}
