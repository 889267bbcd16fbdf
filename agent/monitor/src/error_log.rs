//! What went wrong in the monitor itself: a small file in its directory, since it has no terminal and no parent.

use knarr_monitor::protocol::ERROR_LOG;
use std::fs::OpenOptions;
use std::io::Write;

/// Lines written in one life; a fault that repeats must not fill the file system, which lies in memory.
const MAX_LINES: u32 = 1000;

#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    lines: u32,
}

impl ErrorLog {
    /// Appends a line to the file in the working directory. There is nobody left to tell when that fails.
    pub(crate) fn note(&mut self, message: &str) {
        self.lines += 1;
        if self.lines > MAX_LINES {
            return;
        }
        if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(ERROR_LOG) {
            let _ = writeln!(file, "{message}");
        }
    }
}
