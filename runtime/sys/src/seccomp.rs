//! Loading a seccomp filter.

use crate::error::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};

/// One classic BPF instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub k: u32,
}

/// Loads the filter for this process; the listener's descriptor where `SECCOMP_FILTER_FLAG_NEW_LISTENER` is among the
/// flags.
pub fn load(program: &[Instruction], flags: u64) -> Result<Option<OwnedFd>> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len())
            .map_err(|_| Error::new(rustix::io::Errno::TOOBIG, "seccomp(SECCOMP_SET_MODE_FILTER)"))?,
        filter: program.as_ptr() as *mut libc::sock_filter,
    };
    // SAFETY: `Instruction` has the layout of sock_filter; the kernel only reads the `len` instructions, which
    // outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if result < 0 {
        return Err(Error::last(format!(
            "seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {{len={}}})",
            filter.len
        )));
    }
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the result is a new descriptor that nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }))
}

/// Whether the kernel knows a flag: loading a filter from address 0 fails with EFAULT only after flags were accepted.
pub fn knows_flag(flag: u64) -> bool {
    // SAFETY: a null program is never read; the kernel refuses it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flag,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    result < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}
