//! Finds the entries of a tar stream: ustar, PAX, GNU long names and GNU sparse files.
//!
//! A pull parser: `next` answers one entry, `Data` reads its content, and what was not read is skipped. The field
//! decoding is the tar crate's; walking is ours, because a PAX `size` must move the walk as well (an archive whose
//! readers disagree about that is two archives), and because extension headers need a limit.

use crate::error::{Error, Result};
use crate::layer::limits::Limits;
use crate::layer::pax::Pax;
use number::{number, unsigned};
use std::io::{BufRead, Read};

mod number;

const BLOCK: usize = 512;

/// One entry as the archive describes it.
#[derive(Debug)]
pub(crate) struct RawEntry {
    pub(crate) kind: u8,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the bytes of a sparse file belong; none for an ordinary one.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// Walks an archive.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    input: R,
    limits: Limits,
    global: Pax,
    /// Bytes of the extension headers that `global` is made of.
    global_bytes: u64,
    entries: u64,
    /// Bytes of the current entry's content that were not read, and its padding.
    left: u64,
    padding: u64,
    /// Bytes consumed since the start: where the content of the current entry lies.
    position: u64,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        let global = Pax::default();
        Self { input, limits, global, global_bytes: 0, entries: 0, left: 0, padding: 0, position: 0 }
    }

    /// Where the unread content of the current entry starts in the archive.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, or none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RawEntry>> {
        let mut pax = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        let mut bytes = 0;
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = unsigned("size", &header.as_old().size)?;
            match header.as_bytes()[156] {
                b'x' => pax.extend(&self.metadata(size, &mut bytes)?)?,
                b'g' => {
                    let mut all = self.global_bytes;
                    let records = self.metadata(size, &mut all)?;
                    self.global_bytes = all;
                    self.global.extend(&records)?;
                    pax.extend(&records)?;
                }
                b'L' => long_path = Some(without_nul(self.metadata(size, &mut bytes)?)),
                b'K' => long_link = Some(without_nul(self.metadata(size, &mut bytes)?)),
                b'V' => self.enter(size)?,
                kind => return self.entry(&header, kind, size, pax, (long_path, long_link)).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        kind: u8,
        stored: u64,
        pax: Pax,
        (long_path, long_link): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<RawEntry> {
        let old = header.as_old();
        let stored = pax.size.unwrap_or(stored);
        let (sparse, real_size) = self.sparse(header, kind, stored, &pax)?;
        let mtime = number("mtime", &old.mtime)?;
        let device = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
        let mut entry = RawEntry {
            kind,
            path: pax.path.or(long_path).unwrap_or_else(|| header.path_bytes().into_owned()),
            link: pax
                .link
                .or(long_link)
                .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned()),
            mode: u32::try_from(unsigned("mode", &old.mode)? & 0o7777).unwrap_or(0),
            uid: pax.uid.map_or_else(|| unsigned("uid", &old.uid), Ok)?,
            gid: pax.gid.map_or_else(|| unsigned("gid", &old.gid), Ok)?,
            mtime: pax.mtime.unwrap_or((mtime, 0)),
            device: (device(header.device_major()), device(header.device_minor())),
            size: real_size.unwrap_or(stored),
            xattrs: pax.xattrs.into_iter().collect(),
            sparse,
        };
        if let Some(name) = pax.sparse.name {
            entry.path = name;
        }
        Ok(entry)
    }

    /// The map of a sparse file, from wherever its format keeps it, and its real size.
    fn sparse(&mut self, header: &tar::Header, kind: u8, stored: u64, pax: &Pax) -> Result<SparseMap> {
        // Only these may have content; others sometimes carry a size that means nothing.
        let content = !matches!(kind, b'1' | b'2' | b'3' | b'4' | b'5' | b'6');
        if kind == b'S' {
            let (map, size) = self.gnu_sparse(header)?;
            self.enter(stored)?;
            return Ok((Some(self.check_sparse(map, size)?), Some(size)));
        }
        self.enter(if content { stored } else { 0 })?;
        if !content || !pax.sparse.is_present() {
            return Ok((None, None));
        }
        let size = pax.sparse.real_size.ok_or_else(|| Error::invalid("layer: sparse file without a size"))?;
        let map = if pax.sparse.major == Some(1) { self.sparse_1_0()? } else { pax.sparse.map.clone() };
        Ok((Some(self.check_sparse(map, size)?), Some(size)))
    }

    /// Parts in order, without overlap, inside the file, and exactly as many bytes as are stored.
    fn check_sparse(&self, map: Vec<(u64, u64)>, size: u64) -> Result<Vec<(u64, u64)>> {
        let mut end = 0u64;
        let mut bytes = 0u64;
        for (offset, length) in &map {
            let after = offset.checked_add(*length).filter(|after| *after <= size && *offset >= end);
            end = after.ok_or_else(|| Error::invalid("layer: invalid sparse map"))?;
            bytes += length;
        }
        if bytes != self.left || map.len() > self.limits.sparse_parts {
            return Err(Error::invalid("layer: invalid sparse map"));
        }
        Ok(map)
    }

    /// Format 1.0 keeps the map as decimal lines in front of the content.
    fn sparse_1_0(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut consumed = 0;
        let count = self.decimal_line(&mut consumed)?;
        if count > self.limits.sparse_parts as u64 {
            return Err(Error::invalid("layer: sparse file with too many parts"));
        }
        let mut map = Vec::new();
        for _ in 0..count {
            map.push((self.decimal_line(&mut consumed)?, self.decimal_line(&mut consumed)?));
        }
        let padding = (BLOCK - consumed % BLOCK) % BLOCK;
        self.read_content(&mut vec![0; padding])?;
        Ok(map)
    }

    fn decimal_line(&mut self, consumed: &mut usize) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            let mut byte = [0];
            self.read_content(&mut byte)?;
            *consumed += 1;
            match byte {
                [b'\n'] => return crate::layer::pax::number(b"GNU.sparse", &digits),
                [digit] if digits.len() < 20 => digits.push(digit),
                _ => return Err(Error::invalid("layer: invalid sparse map")),
            }
        }
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> Result<()> {
        Data { reader: self }.read_exact(buffer).map_err(|e| Error::io("layer: sparse map", e))
    }

    /// The old GNU format: four parts in the header, then extension blocks of 21.
    fn gnu_sparse(&mut self, header: &tar::Header) -> Result<(Vec<(u64, u64)>, u64)> {
        let bad = |e: std::io::Error| Error::invalid(format!("layer: invalid sparse map: {e}"));
        let gnu = header.as_gnu().ok_or_else(|| Error::invalid("layer: sparse file in a non-GNU header"))?;
        let mut map = Vec::new();
        let mut extend = |parts: &[tar::GnuSparseHeader]| -> Result<()> {
            for part in parts.iter().filter(|part| !part.is_empty()) {
                map.push((part.offset().map_err(bad)?, part.length().map_err(bad)?));
            }
            if map.len() > self.limits.sparse_parts {
                return Err(Error::invalid("layer: sparse file with too many parts"));
            }
            Ok(())
        };
        extend(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes()).map_err(cut_short)?;
            self.position += BLOCK as u64;
            extend(block.sparse())?;
            more = block.is_extended();
        }
        Ok((map, gnu.real_size().map_err(bad)?))
    }

    /// From here on the next bytes are an entry's content.
    fn enter(&mut self, size: u64) -> Result<()> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let padded = padded.ok_or_else(|| Error::invalid("layer: entry size overflows"))?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    /// Skips what is left of the current entry and reads a header. Two zero blocks end the archive, as does the
    /// end of the stream at a block boundary.
    fn header(&mut self) -> Result<Option<tar::Header>> {
        self.skip()?;
        let mut header = tar::Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::invalid(format!("layer: more than {} entries", self.limits.entries)));
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// False at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let read = |e| Error::io("layer: read", e);
        if self.input.fill_buf().map_err(read)?.is_empty() {
            return Ok(false);
        }
        self.input.read_exact(block).map_err(cut_short)?;
        self.position += BLOCK as u64;
        Ok(true)
    }

    /// One extension header; `bytes` counts those that are kept together.
    fn metadata(&mut self, size: u64, bytes: &mut u64) -> Result<Vec<u8>> {
        *bytes = bytes.saturating_add(size);
        if *bytes > self.limits.metadata {
            return Err(Error::invalid(format!("layer: extension headers of {bytes} bytes are too long")));
        }
        self.enter(size)?;
        let mut data = Vec::new();
        self.data().read_to_end(&mut data).map_err(|e| Error::io("layer: extension header", e))?;
        Ok(data)
    }

    fn skip(&mut self) -> Result<()> {
        self.left += std::mem::take(&mut self.padding);
        std::io::copy(&mut self.data(), &mut std::io::sink()).map_err(|e| Error::io("layer: skip", e))?;
        Ok(())
    }

    /// The content of the current entry.
    pub(crate) fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// Reads the rest of the stream, so that whoever hashes it has seen every byte.
    pub(crate) fn drain(mut self) -> Result<u64> {
        std::io::copy(&mut self.input, &mut std::io::sink()).map_err(|e| Error::io("layer: read", e))
    }
}

type SparseMap = (Option<Vec<(u64, u64)>>, Option<u64>);

/// Reads the content of one entry. The end of the archive inside it is an error.
#[derive(Debug)]
pub(crate) struct Data<'a, R> {
    reader: &'a mut TarReader<R>,
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Data<'_, R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.reader.left == 0 {
            return Ok(&[]);
        }
        let available = self.reader.input.fill_buf()?;
        if available.is_empty() {
            return Err(Error::invalid("layer: truncated archive").into());
        }
        let count = available.len().min(usize::try_from(self.reader.left).unwrap_or(usize::MAX));
        Ok(available.get(..count).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.reader.input.consume(count);
        self.reader.left -= count as u64;
        self.reader.position += count as u64;
    }
}

fn cut_short(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::invalid("layer: truncated archive"),
        _ => Error::io("layer: read", error),
    }
}

fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

/// Both sums are in use: of unsigned bytes (POSIX) and of signed ones (old Suns).
fn check_sum(header: &tar::Header) -> Result<()> {
    let wrong = |_| Error::invalid("layer: not a tar archive: header checksum is no number");
    let stored = header.cksum().map_err(wrong)?;
    // The sum's own field counts as spaces. Plain sums, because the compiler turns those into a few instructions.
    let (whole, field) = (header.as_bytes(), &header.as_old().cksum);
    let unsigned_sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let signed_sum = |bytes: &[u8]| bytes.iter().map(|byte| i32::from(byte.cast_signed())).sum::<i32>();
    let spaces = 8 * u32::from(b' ');
    let unsigned = unsigned_sum(whole) - unsigned_sum(field) + spaces;
    let signed = signed_sum(whole) - signed_sum(field) + spaces.cast_signed();
    if stored == unsigned || i64::from(stored) == i64::from(signed) {
        Ok(())
    } else {
        Err(Error::invalid("layer: not a tar archive: header checksum is wrong"))
    }
}

#[cfg(test)]
mod tests;
