//! Telling the kernel to begin writing a part of a file to the disk, without waiting for it.

use crate::error::{Error, Result};
use std::fs::File;
use std::os::fd::AsRawFd;

/// Begins to write the dirty pages of `length` bytes from `offset` on. They stay in memory.
pub fn begin(file: &File, offset: u64, length: u64) -> Result<()> {
    let signed = |bytes: u64| libc::off64_t::try_from(bytes).unwrap_or(libc::off64_t::MAX);
    let (offset, length) = (signed(offset), signed(length));
    // SAFETY: the call takes numbers alone.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result < 0 { Err(Error::last("sync_file_range(SYNC_FILE_RANGE_WRITE)")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_files_and_says_so_elsewhere() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        begin(&file, 4096, 8192).unwrap();
        begin(&file, u64::MAX - 1, 1).unwrap_err();
        let pipe = File::open("/dev/null").unwrap();
        begin(&pipe, 0, 1).unwrap_err();
    }
}
