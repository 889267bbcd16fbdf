//! `fork` for a worker process that shares nothing with its parent but one descriptor.
//!
//! A forked worker is cheaper than an executed one: it shares the pages of its parent until it writes to them. It is
//! sound only from a process with one thread (a lock held by another thread would stay locked forever in the child),
//! so this is checked, and the work is a plain function: nothing that the parent owned can be reached, or dropped,
//! in the child.

use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The number that the worker's channel has in the worker.
const CHANNEL: libc::c_int = 3;

/// Starts a process that calls `work(channel)` and exits with its answer. It keeps standard input, output and error
/// and `channel`; every other descriptor is closed in it.
///
/// Fails with `EBUSY` when the process has more than one thread.
pub fn spawn_worker(channel: OwnedFd, work: fn(OwnedFd) -> i32) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the process has exactly one thread (checked above, and only that thread could start another), so the
    // child starts with no lock held and may allocate and call anything.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => child(channel, work),
        pid => Pid::from_raw(pid).ok_or_else(io::Error::last_os_error),
    }
}

fn child(channel: OwnedFd, work: fn(OwnedFd) -> i32) -> ! {
    let code = match only_channel_left(&channel) {
        // SAFETY: dup2 has just made CHANNEL a descriptor of its own, which nothing else in this process owns: the
        // values that could have owned that number belong to the parent's frames, which the child never returns to.
        Ok(()) => work(unsafe { OwnedFd::from_raw_fd(CHANNEL) }),
        Err(_) => 1,
    };
    // SAFETY: ends the process without running the parent's exit handlers; it has no precondition.
    unsafe { libc::_exit(code) }
}

/// Moves the channel to `CHANNEL` and closes every descriptor above it.
fn only_channel_left(channel: &OwnedFd) -> io::Result<()> {
    if channel.as_raw_fd() != CHANNEL {
        // SAFETY: both numbers are plain integers; an owner of CHANNEL in the parent's frames is never used again.
        check(unsafe { libc::dup2(channel.as_raw_fd(), CHANNEL) })?;
    }
    // SAFETY: the descriptors closed here are owned by values of the parent's frames, which the child never touches.
    check(unsafe { libc::close_range(CHANNEL as libc::c_uint + 1, libc::c_uint::MAX, 0) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
