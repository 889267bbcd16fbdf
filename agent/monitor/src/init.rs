//! `knarr-monitor init`: process 1 of a pod whose containers share one pid namespace.
//!
//! The kernel ends such a namespace with its first process, so that process must outlive every container, and it is
//! the parent of every orphan, so it must reap. It does nothing else.

use nix::sys::signal::{SigSet, Signal};
use rustix::process::WaitOptions;

/// Runs until SIGTERM or SIGINT. Signals are blocked and waited for: process 1 of a namespace never gets one whose
/// action is the default, but a blocked one is kept for it.
pub(crate) fn run() -> Result<(), String> {
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().map_err(|errno| format!("block signals: {errno}"))?;
    loop {
        let signal = signals.wait().map_err(|errno| format!("wait for signals: {errno}"))?;
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        if signal != Signal::SIGCHLD {
            return Ok(());
        }
    }
}
