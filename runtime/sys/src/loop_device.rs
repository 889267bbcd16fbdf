//! Loop devices: a file as a block device, for kernels that mount a file system from nothing else.

use crate::error::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// linux/loop.h
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
/// The device goes with the last one that uses it.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Two may find the same free device; one of them then looks again.
const ATTEMPTS: usize = 64;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A device that stands for a file for as long as this is held, or anything is mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub path: PathBuf,
    _open: OwnedFd,
}

/// A read-only device for a file (kernel 5.8).
pub fn attach(file: &File) -> Result<LoopDevice> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let control = rustix::fs::openat(CWD, "/dev/loop-control", flags, Mode::empty())
        .map_err(|errno| Error::new(errno, "open(/dev/loop-control)"))?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        // SAFETY: this request takes no argument and answers a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(Error::last("ioctl(LOOP_CTL_GET_FREE)"));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let read_only = OFlags::RDONLY | OFlags::CLOEXEC;
        let device = rustix::fs::openat(CWD, &path, read_only, Mode::empty())
            .map_err(|errno| Error::new(errno, format!("open({})", path.display())))?;
        match configure(&device, file) {
            Ok(()) => return Ok(LoopDevice { path, _open: device }),
            Err(error) if error.errno == rustix::io::Errno::BUSY && attempts < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

fn configure(device: &OwnedFd, file: &File) -> Result<()> {
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    // A descriptor is never negative.
    let fd = u32::try_from(file.as_raw_fd()).unwrap_or(u32::MAX);
    let config = Config { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the structure is the kernel's loop_config, which it only reads, and lives for the whole call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result < 0 { Err(Error::last("ioctl(LOOP_CONFIGURE)")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
