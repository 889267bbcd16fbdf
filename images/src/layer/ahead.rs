//! Reads ahead on a thread of its own, so that the stages of one layer overlap: what arrives is hashed and stored while
//! the part before it is decompressed and the one before that is hashed again and written. One huge layer then costs
//! what its slowest stage costs.
//!
//! The bytes between two stages are bounded. A consumer that stops early stops its producer at the next piece; an error
//! travels to the consumer in its place in the stream.

use std::io::{BufRead, Read, Result};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

const PIECE: usize = 128 << 10;
const PIECES: usize = 6;

/// The consumer's side.
#[derive(Debug)]
pub(crate) struct Ahead {
    pieces: Receiver<Result<Vec<u8>>>,
    /// Buffers go back to be filled again.
    empty: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Ahead {
    /// Starts reading; ends with the source, or soon after the consumer is dropped.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        open: impl FnOnce() -> Result<Box<dyn Read + 'scope>> + Send + 'scope,
    ) -> Result<Self> {
        let (filled, pieces) = sync_channel(PIECES);
        let (empty, used) = sync_channel::<Vec<u8>>(PIECES);
        let read = move || {
            let failure = match open() {
                Ok(source) => fill(source, &filled, &used).err(),
                Err(error) => Some(error),
            };
            if let Some(error) = failure {
                // A consumer that has gone has its own error.
                let _ = filled.send(Err(error));
            }
        };
        std::thread::Builder::new().name("layer".to_owned()).spawn_scoped(scope, read)?;
        Ok(Self { pieces, empty, piece: Vec::new(), read: 0, ended: false })
    }
}

fn fill(mut source: impl Read, filled: &SyncSender<Result<Vec<u8>>>, used: &Receiver<Vec<u8>>) -> Result<()> {
    loop {
        let mut piece = used.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut length = 0;
        while length < PIECE {
            match source.read(piece.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    piece.truncate(length);
                    let _ = filled.send(Ok(piece));
                    return Err(error);
                }
            }
        }
        piece.truncate(length);
        // An empty piece is the end.
        if filled.send(Ok(piece)).is_err() || length == 0 {
            return Ok(());
        }
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        while self.read == self.piece.len() && !self.ended {
            let next = self.pieces.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            self.ended = next.is_empty();
            let old = std::mem::replace(&mut self.piece, next);
            self.read = 0;
            // With no room for it, or nobody left, it is simply freed.
            let _ = self.empty.try_send(old);
        }
        Ok(self.piece.get(self.read..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.read = (self.read + count).min(self.piece.len());
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) else { return Ok(0) };
        to.copy_from_slice(from);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in odd pieces, then fails.
    struct Odd<'a>(&'a [u8], bool);

    impl Read for Odd<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let count = self.0.len().min(buffer.len()).min(12_345);
            if count == 0 && self.1 {
                return Err(std::io::Error::other("broken"));
            }
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn bytes() -> Vec<u8> {
        (0..5_000_000u32).map(|n| n.to_le_bytes()[1]).collect()
    }

    #[test]
    fn everything_arrives_in_order_and_errors_after_it() {
        let bytes = bytes();
        for broken in [false, true] {
            let mut read = Vec::new();
            let result = std::thread::scope(|scope| {
                let mut ahead = Ahead::start(scope, || Ok(Box::new(Odd(&bytes, broken)))).unwrap();
                ahead.read_to_end(&mut read)
            });
            assert_eq!(read, bytes);
            assert_eq!(result.is_err(), broken);
        }
    }

    #[test]
    fn a_consumer_may_stop_early_and_a_source_may_not_open() {
        let bytes = bytes();
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, || Ok(Box::new(&bytes[..]))).unwrap();
            ahead.read_exact(&mut [0; 10]).unwrap();
            drop(ahead);
            let mut none = Ahead::start(scope, || Err(std::io::Error::other("no"))).unwrap();
            assert!(none.read(&mut [0; 10]).is_err());
        });
    }
}
