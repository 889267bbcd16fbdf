//! Ends a compressed stream that expands too far: what a few megabytes become must not fill the disk or take for ever.
//!
//! Counting happens on both sides of the decoder, which may be on different threads.

use crate::error::Result;
use crate::layer::compression::decompress_archive;
use crate::layer::limits::Limits;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that went into the decoder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compressed(Arc<AtomicU64>);

impl Compressed {
    /// Counts what is read from a stream.
    pub(crate) fn count<R>(&self, inner: R) -> Counting<R> {
        Counting { inner, count: self.clone() }
    }

    /// So far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Holds what came out against what went in.
    fn bound<R>(self, inner: R, limits: Limits) -> Bounded<R> {
        Bounded { inner, limits, compressed: self, uncompressed: 0 }
    }
}

/// The uncompressed stream of one that may be compressed, within its limits.
pub(crate) fn expand<'a>(stream: impl Read + 'a, limits: Limits) -> Result<impl Read + 'a> {
    let compressed = Compressed::default();
    let plain = decompress_archive(compressed.count(stream))?;
    Ok(compressed.bound(plain, limits))
}

/// In front of the decoder.
#[derive(Debug)]
pub(crate) struct Counting<R> {
    inner: R,
    count: Compressed,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Behind it.
#[derive(Debug)]
struct Bounded<R> {
    inner: R,
    limits: Limits,
    compressed: Compressed,
    uncompressed: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.uncompressed += count as u64;
        self.limits.check_expansion(self.compressed.bytes(), self.uncompressed)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::io::Write;

    #[test]
    fn a_bomb_ends_at_its_limit() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        (0..64).for_each(|_| bomb.write_all(&[0; 1 << 20]).unwrap());
        let bomb = bomb.finish().unwrap();
        let limits = Limits { ratio_from: 4 << 20, ..Limits::default() };
        let mut read = 0;
        let mut stream = expand(&bomb[..], limits).unwrap();
        let error = loop {
            match stream.read(&mut [0; 1 << 16]) {
                Ok(0) => panic!("it went off"),
                Ok(count) => read += count,
                Err(error) => break Error::io("read", error),
            }
        };
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(read < 48 << 20, "{read} bytes came out");
        let honest = Limits { ratio_from: 128 << 20, ..Limits::default() };
        assert_eq!(
            std::io::copy(&mut expand(&bomb[..], honest).unwrap(), &mut std::io::sink()).unwrap(),
            64 << 20
        );
    }
}
