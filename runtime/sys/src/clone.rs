//! clone3(2) used as fork(2): the child is a copy of the caller in new namespaces and, on cgroup v2, already in its
//! cgroup, so nobody ever pays the RCU grace period that writing to `cgroup.procs` costs.

use crate::error::{Error, Result};
use rustix::process::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The kernel's value; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Proof that this process has one thread. A forked copy of a process with more holds locks nobody will release.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads: `/proc/self/task` has two links plus one per thread.
    pub fn prove() -> Result<Self> {
        let task = rustix::fs::stat("/proc/self/task")
            .map_err(|errno| Error::new(errno, "stat(\"/proc/self/task\")"))?;
        if task.st_nlink == 3 {
            return Ok(SingleThreaded(()));
        }
        Err(Error::new(rustix::io::Errno::BUSY, "clone3 in a process with several threads"))
    }
}

/// Which side of the clone this is.
#[derive(Debug)]
pub enum Side {
    /// The caller, with the child.
    Parent(Child),
    /// The copy.
    Child,
}

/// A new process.
#[derive(Debug)]
pub struct Child {
    /// In the pid namespace of the caller.
    pub pid: Pid,
    /// Refers to it even when the number is used again.
    pub pidfd: OwnedFd,
}

/// Clones the process with `CLONE_NEW*` (and `CLONE_PARENT`) flags. `cgroup` is a directory of cgroup v2.
pub fn clone(_: &SingleThreaded, flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let into_cgroup = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    // With CLONE_PARENT the exit signal is that of the caller itself.
    let exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    let arguments = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64 | into_cgroup,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child gets its own copy of all memory and goes on from here, as after fork(2); the
    // token proves no other thread's locks are copied in a held state. `arguments` and `pidfd` outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match result {
        0 => Ok(Side::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            match Pid::from_raw(pid as i32) {
                Some(pid) => Ok(Side::Parent(Child { pid, pidfd })),
                None => Err(Error::new(rustix::io::Errno::INVAL, "clone3")),
            }
        }
        _ => Err(Error::last(format!("clone3({{flags={:#x}, exit_signal={exit_signal}}})", arguments.flags))),
    }
}
