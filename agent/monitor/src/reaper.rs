//! `knarr-monitor init -- COMMAND...`: process 1 of a container that was started with `--init`.
//!
//! Most programs were not written to be process 1: they neither reap what they did not start, nor have they a default
//! action for signals. This one stays in front: it starts the command, passes signals on to it, reaps every orphan, and
//! ends as the command ended.

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::Pid as Process;
use rustix::process::{Pid, WaitOptions};
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::{Command, ExitCode};

/// Origin of signals that the kernel made: a terminal has sent those to the command, too.
const SI_KERNEL: i32 = 0x80;

/// A fault of our own, or a stop for using the terminal from behind: not the command's business.
const OUR_OWN: [Signal; 9] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGSYS,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Runs the command to its end. What cannot be run ends as in a shell: 127 not found, 126 not to be invoked.
pub(crate) fn run(words: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let mut words = words.skip_while(|word| word == "--");
    let program = words.next().ok_or("usage: knarr-monitor init -- COMMAND...")?;
    // First, because it inherits which signals are blocked.
    let child = match Command::new(&program).args(words).spawn() {
        Ok(child) => Pid::from_child(&child),
        Err(error) => return Ok(not_started(&program, &error)),
    };
    let mut signals = SigSet::all();
    OUR_OWN.into_iter().for_each(|signal| signals.remove(signal));
    signals.thread_block().map_err(|errno| format!("block signals: {errno}"))?;
    let pending = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| format!("signalfd: {errno}"))?;
    loop {
        // It may have ended before the signals of that were kept for us.
        if let Some(code) = reaped(child) {
            return Ok(ExitCode::from(code));
        }
        let signal = pending.read_signal().map_err(|errno| format!("wait for signals: {errno}"))?;
        if let Some(signal) = signal {
            pass_on(&signal, child);
        }
    }
}

fn not_started(program: &OsString, error: &std::io::Error) -> ExitCode {
    // The container's own error output, which may be closed.
    let _ = writeln!(std::io::stderr(), "exec {} failed: {error}", program.display());
    ExitCode::from(if error.kind() == ErrorKind::NotFound { 127 } else { 126 })
}

fn pass_on(signal: &siginfo, child: Pid) {
    let Some(kind) = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
    else {
        return;
    };
    if kind != Signal::SIGCHLD && signal.ssi_code != SI_KERNEL {
        // It may have ended in this very moment.
        let _ = kill(Process::from_raw(child.as_raw_nonzero().get()), kind);
    }
}

/// Reaps all that has ended; the command's status, or 128 + signal, if it is among them.
fn reaped(child: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            code = Some(crate::reap::exit_code(status));
        }
    }
    code.map(|code| u8::try_from(code).unwrap_or(u8::MAX))
}
