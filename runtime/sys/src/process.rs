//! What a process changes about itself before it becomes the container's program.

use crate::error::{Call, Error, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Marks every descriptor from `first` on as closed at the next exec, whatever it is and whoever opened it.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: only sets a flag of descriptors; none is closed, so no owner is deceived.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::last(format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)")))
    }
}

/// Closes every descriptor from `first` on. Only for the very beginning of a program, before it has opened anything:
/// whatever is open then was inherited, and belongs to nobody here.
pub fn close_inherited(first: u32) -> Result<()> {
    // SAFETY: as said above no owner of any of these numbers exists in this process yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(Error::last(format!("close_range({first}, ~0, 0)"))) }
}

/// Becomes another program; returns only on failure.
pub fn exec(path: &CStr, args: &[CString], env: &[CString]) -> Error {
    match nix::unistd::execve(path, args, env).call(|| format!("execve({path:?})")) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Becomes the program that is open as `file`.
pub fn exec_fd(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Error {
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    match nix::unistd::execveat(file, c"", args, env, flags)
        .call(|| format!("execveat({}, \"\")", file.as_raw_fd()))
    {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Has the kernel kill (SIGKILL) what `command` starts when the calling thread ends; what that starts itself lives on.
pub fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = rustix::process::getpid();
    let arm = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It died before: nobody will be told.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe; nothing is allocated
    // and no lock is taken.
    unsafe { command.pre_exec(arm) };
}

/// Ends the process at once: no destructors, no buffers written (they are copies of the parent's).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of a descriptor that the caller of this program passed by number (`--preserve-fds`, activation).
/// Nothing when the number is not open.
pub fn adopt_fd(number: i32) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    // SAFETY: fcntl on any number is harmless; the original stays with whoever had it.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: the copy is new, so nothing else owns it.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let ids: Vec<nix::unistd::Gid> = groups.iter().map(|gid| nix::unistd::Gid::from_raw(*gid)).collect();
    nix::unistd::setgroups(&ids).call(|| format!("setgroups({groups:?})"))
}

/// Real, effective and saved group id.
pub fn set_gid(gid: u32) -> Result<()> {
    let id = nix::unistd::Gid::from_raw(gid);
    nix::unistd::setresgid(id, id, id).call(|| format!("setresgid({gid}, {gid}, {gid})"))
}

/// Real, effective and saved user id.
pub fn set_uid(uid: u32) -> Result<()> {
    let id = nix::unistd::Uid::from_raw(uid);
    nix::unistd::setresuid(id, id, id).call(|| format!("setresuid({uid}, {uid}, {uid})"))
}

/// Lets each of these signals end the process, with the status a shell would tell: the kernel spares the first process
/// of a pid namespace every signal of its own that it has no handler for. Executing a program takes the handlers off.
pub fn end_on(signals: &[rustix::process::Signal]) -> Result<()> {
    extern "C" fn end(number: libc::c_int) {
        exit_now(128 + number)
    }
    let action = nix::sys::signal::SigAction::new(
        nix::sys::signal::SigHandler::Handler(end),
        nix::sys::signal::SaFlags::empty(),
        nix::sys::signal::SigSet::empty(),
    );
    for signal in signals {
        let number = signal.as_raw();
        let signal = nix::sys::signal::Signal::try_from(number).call(|| format!("signal {number}"))?;
        // SAFETY: the handler calls nothing but _exit, which is async-signal-safe, and never returns into what it
        // interrupted.
        unsafe { nix::sys::signal::sigaction(signal, &action) }
            .call(|| format!("rt_sigaction({number}, <exit>)"))?;
    }
    Ok(())
}

/// All signals with their default action and none blocked, as a fresh program expects them.
pub fn reset_signals() -> Result<()> {
    // The kernel's `struct sigaction`, all zeros: SIG_DFL, no flags, nothing blocked. Not the C library's call, which
    // refuses the two signals that it keeps for itself; its own `posix_spawn` leaves them ignored.
    let default = [0_u64; 4];
    for number in 1..=64_i64 {
        // SAFETY: the kernel reads 32 bytes, which are there, and writes none; SIG_DFL installs no handler, so no code of
        // ours can run in a signal context. Those that cannot be changed (SIGKILL, SIGSTOP) fail without effect.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), std::ptr::null::<u64>(), 8_usize)
        };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask().call(|| "rt_sigprocmask(SIG_SETMASK, [])")
}

/// A signal by its number; not those that the C library keeps for itself.
pub fn signal(number: i32) -> Option<rustix::process::Signal> {
    let named = rustix::process::Signal::from_named_raw(number);
    if named.is_some() || !(34..=64).contains(&number) {
        return named;
    }
    // SAFETY: 34 to 64 are real-time signals on Linux, and glibc reserves only 32 and 33.
    Some(unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}
