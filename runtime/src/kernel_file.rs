//! Files of procfs and cgroupfs: small, made up by the kernel when they are read, and changed by a single write.
//!
//! The standard library asks for their size (it is 0), reads in small pieces that double, and opens for writing with
//! flags that mean nothing here. A container start touches dozens of them, so each costs one open and one call.

use rustix::fs::{CWD, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// More than nearly all of them hold.
const USUAL: usize = 4096;

/// The whole text.
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let file = rustix::fs::openat(CWD, path.as_ref(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = [0_u8; USUAL];
    let mut text = Vec::new();
    loop {
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes))?;
        text.extend_from_slice(bytes.get(..length).unwrap_or_default());
        // The kernel hands out all there is, up to the size of the buffer.
        if length == 0 || length < USUAL && text.ends_with(b"\n") {
            return String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into());
        }
    }
}

/// One value, with one write.
pub(crate) fn write(path: impl AsRef<Path>, value: impl AsRef<[u8]>) -> io::Result<()> {
    write_to(&open(path)?, value)
}

/// For several writes.
pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path.as_ref(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// One value, to a file that is open.
pub(crate) fn write_to(file: &OwnedFd, value: impl AsRef<[u8]>) -> io::Result<()> {
    let value = value.as_ref();
    let written = rustix::io::retry_on_intr(|| rustix::io::write(file, value))?;
    if written == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        for length in [0, 1, USUAL - 1, USUAL, USUAL + 1, 3 * USUAL] {
            let text = "x".repeat(length);
            std::fs::write(&file, &text).unwrap();
            assert_eq!(read(&file).unwrap(), text);
        }
        assert!(read("/proc/self/stat").unwrap().starts_with(&std::process::id().to_string()));
    }

    #[test]
    fn what_does_not_exist_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let error = write(directory.path().join("f"), "1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
