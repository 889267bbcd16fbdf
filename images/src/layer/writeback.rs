//! Starts writing to the disk what has just been written to the page cache: a pull ends with one `syncfs`, which then
//! finds most of its work done while the rest was still arriving.

use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::num::NonZeroU64;

/// Bytes after which writing begins; a fraction of what any disk takes in the time of one.
const EVERY: u64 = 8 << 20;

/// How far one file has been handed to the disk.
#[derive(Debug, Default)]
pub(crate) struct Writeback {
    begun: u64,
}

impl Writeback {
    /// To be told after each write how long the file is by now.
    pub(crate) fn reached(&mut self, file: &File, position: u64) {
        let length = position.saturating_sub(self.begun);
        if length >= EVERY {
            // Begins to write without waiting; pages that are not yet clean stay in memory. Only a hint: an error
            // leaves the work to syncfs.
            let _ = fadvise(file, self.begun, NonZeroU64::new(length), Advice::DontNeed);
            self.begun = position;
        }
    }
}
