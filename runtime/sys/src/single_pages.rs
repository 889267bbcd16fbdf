//! Pages of the program that are mapped one by one. Where one page of a file is touched, the kernel maps its fifteen
//! neighbours as well, as far as they are in the page cache: of a large program, of which a little is used here and a
//! little there, three pages of four that it holds were never asked for. The kernel leaves that off where it tracks
//! writes for a userfaultfd (Linux 6.7, in its asynchronous mode, in which nobody waits for anything); nothing writes
//! to these pages, so that tracking never does anything. Where it is refused all stays as it was.

use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// Faults of the program itself; then no right is needed.
const USER_MODE_ONLY: libc::c_int = 1;
const VERSION: u64 = 0xaa;
/// Pages are written to without anybody being asked.
const WRITES_ASYNCHRONOUS: u64 = 1 << 15;
const TRACK_WRITES: u64 = 1 << 1;
/// `_IOWR` of 0xaa: number 0x3f with 24 bytes, number 0 with 32.
const API: libc::c_ulong = 0xc018_aa3f;
const REGISTER: libc::c_ulong = 0xc020_aa00;

#[repr(C)]
struct Api {
    version: u64,
    features: u64,
    calls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    calls: u64,
}

/// From now on pages of this mapping come alone. Whether the kernel does so is told, and nobody depends on it.
pub(crate) fn come_alone(mapping: &Range<usize>) -> bool {
    /// Open for as long as the program runs: with it the tracking would end.
    static TRACKING: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let Some(tracking) = TRACKING.get_or_init(open) else { return false };
    let mut register =
        Register { start: mapping.start as u64, length: mapping.len() as u64, mode: TRACK_WRITES, calls: 0 };
    // SAFETY: the structure is the one that this call takes, and outlives it. Writes to the range, if there were any,
    // would be noted by the kernel and go on: in the asynchronous mode no thread is ever stopped.
    unsafe { libc::ioctl(tracking.as_raw_fd(), REGISTER, &raw mut register) == 0 }
}

fn open() -> Option<OwnedFd> {
    // SAFETY: the call takes flags alone.
    let number = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
    let number = i32::try_from(number).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let tracking = unsafe { OwnedFd::from_raw_fd(number) };
    let mut api = Api { version: VERSION, features: WRITES_ASYNCHRONOUS, calls: 0 };
    // SAFETY: the structure is the one that this call takes, and outlives it.
    let agreed = unsafe { libc::ioctl(number, API, &raw mut api) };
    (agreed == 0).then_some(tracking)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_program_changes() {
        static TABLE: [u64; 4096] = [5; 4096];
        let page = TABLE.as_ptr().addr().next_multiple_of(4096);
        let told = come_alone(&(page..page + 4096));
        assert_eq!(come_alone(&(page..page + 4096)), told);
        assert_eq!(TABLE.iter().sum::<u64>(), 5 * 4096);
        let tracked = |line: &str| line.starts_with("VmFlags:") && line.contains(" uw");
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert_eq!(maps.lines().any(tracked), told, "{maps}");
    }
}
