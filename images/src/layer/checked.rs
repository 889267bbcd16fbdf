//! The uncompressed stream as it is unpacked: every byte of it is hashed and counted against its limits once, where it
//! lies in the reader's own buffer; nothing is copied for it.

use crate::digest::{Digest, Hasher};
use crate::layer::expansion::Compressed;
use crate::layer::limits::Limits;
use std::io::{BufRead, Read, Result};

/// Around a buffered reader.
#[derive(Debug)]
pub(crate) struct Checked<R> {
    inner: R,
    hasher: Hasher,
    limits: Limits,
    compressed: Compressed,
    total: u64,
    /// Bytes at the front of the inner buffer that have been seen.
    seen: usize,
}

impl<R: BufRead> Checked<R> {
    pub(crate) fn new(inner: R, limits: Limits, compressed: Compressed) -> Self {
        Self { inner, hasher: Hasher::default(), limits, compressed, total: 0, seen: 0 }
    }

    /// Of everything that was read.
    pub(crate) fn digest(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: BufRead> BufRead for Checked<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        let buffer = self.inner.fill_buf()?;
        if let Some(new @ [_, ..]) = buffer.get(self.seen..) {
            self.hasher.update(new);
            self.total += new.len() as u64;
            self.limits.check_expansion(self.compressed.bytes(), self.total)?;
            self.seen = buffer.len();
        }
        Ok(buffer)
    }

    fn consume(&mut self, count: usize) {
        self.seen -= count.min(self.seen);
        self.inner.consume(count);
    }
}

impl<R: BufRead> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn every_byte_counts_once_however_it_is_read() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for (buffer, step) in [(1, 7), (7, 1), (4096, 100), (100, 4096), (1 << 20, 3)] {
            let inner = BufReader::with_capacity(buffer, &bytes[..]);
            let mut checked = Checked::new(inner, Limits::default(), Compressed::default());
            let mut read: Vec<u8> = Vec::new();
            loop {
                // A look that takes nothing, then a read.
                checked.fill_buf().unwrap();
                let mut piece = vec![0; step];
                let count = checked.read(&mut piece).unwrap();
                read.extend(&piece[..count]);
                if count == 0 {
                    break;
                }
            }
            assert_eq!(read, bytes);
            assert_eq!(checked.total, 100_000);
            assert_eq!(checked.digest(), Digest::of(&bytes), "{buffer} {step}");
        }
        let limits = Limits { bytes: 10, ..Limits::default() };
        let mut checked = Checked::new(&bytes[..], limits, Compressed::default());
        assert!(checked.fill_buf().is_err());
    }
}
