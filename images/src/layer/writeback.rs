//! Starts writing to the disk what has just been written to the page cache: a pull ends with one `syncfs`, which then
//! finds most of its work done while the rest was still arriving.

use std::fs::File;

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
            // By sync_file_range: POSIX_FADV_DONTNEED begins to write as well, but then tries to drop the pages, and
            // for those under way it empties the queues of every processor first. Only a hint: an error leaves the
            // work to syncfs.
            let _ = knarr_sys::writeback::begin(file, self.begun, length);
            self.begun = position;
        }
    }
}
