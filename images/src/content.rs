//! Blobs by digest, written once.
//!
//! A blob has its name only after its digest was checked. What an interrupted download left is kept under another
//! name and read again by the next attempt, which hashes it like everything else, so nothing is ever trusted
//! because it is there.

use crate::digest::Digest;
use crate::error::Result;
use std::fmt::Debug;
use std::fs::File;

mod directory;
#[cfg(test)]
mod suite;

pub(crate) use directory::BlobDirectory;

/// Holds blobs.
pub(crate) trait ContentStore: Debug + Send + Sync {
    /// Bytes of a blob, where it is there.
    fn stat(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Opens a blob for reading.
    fn open(&self, digest: &Digest) -> Result<File>;

    /// Starts or resumes writing a blob, after waiting for anybody else who does. None where it is there.
    fn ingest(&self, digest: &Digest) -> Result<Option<Box<dyn Ingest>>>;

    /// Takes a blob away; its bytes are given back when the trash is emptied. Nothing there is no error.
    fn remove(&self, digest: &Digest) -> Result<()>;

    /// Every blob and its size.
    fn walk(&self) -> Result<Vec<(Digest, u64)>>;

    /// Forgets interrupted downloads that nobody continues and that are at least this old; answers their bytes.
    fn forget_partial(&self, age: std::time::Duration) -> Result<u64>;
}

/// One blob being written. Dropping it keeps what was written for the next attempt.
pub(crate) trait Ingest: Debug + Send {
    /// Bytes that an earlier attempt left.
    fn kept(&self) -> u64;

    /// Reads the kept bytes from the start, hashing them. Must reach the end before anything is written.
    fn replay(&mut self, buffer: &mut [u8]) -> Result<usize>;

    /// Appends.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives the blob its name, if size and digest are right; else everything written is dropped.
    fn commit(self: Box<Self>, size: u64) -> Result<()>;
}

/// Stores bytes that are at hand.
pub(crate) fn put(store: &dyn ContentStore, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    if let Some(mut ingest) = store.ingest(&digest)? {
        let mut buffer = vec![0; 64 << 10];
        while ingest.replay(&mut buffer)? > 0 {}
        let kept = usize::try_from(ingest.kept()).unwrap_or(usize::MAX);
        // What was kept is hashed with the rest: if it is not a prefix of these bytes, the commit fails.
        ingest.write(bytes.get(kept..).unwrap_or_default())?;
        ingest.commit(bytes.len() as u64)?;
    }
    Ok(digest)
}
