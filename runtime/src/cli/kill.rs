//! `kill`: a signal for the container's init, or for all its processes.

use super::{Arguments, Flag, Global};
use crate::cgroups::control;
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::state::Status;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

pub(super) const FLAGS: &[Flag] = &[Flag::switch("all", Some('a'))];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let wanted =
        arguments.positionals.get(1).map_or("SIGTERM".into(), |word| word.to_string_lossy().into_owned());
    let container = Container::peek(&global.root, &id)?;
    if wanted == "0" {
        // No signal at all: only whether there is somebody, which `--all` does not insist on.
        let nobody = container.status()? == Status::Stopped && !arguments.has("all");
        return if nobody { Err(not_running()) } else { Ok(0) };
    }
    let signal = crate::signals::parse(&wanted)?;
    // Who shares a pid namespace does not die with init: what is left is found through the cgroup.
    let all = arguments.has("all") || (signal == Signal::KILL && container.record.shares_pids);
    match container.status()? {
        Status::Stopped if all => match control::processes(&container.record.cgroups)?.is_empty() {
            true if arguments.has("all") => return Ok(0),
            true => return Err(not_running()),
            false => {}
        },
        Status::Stopped => return Err(not_running()),
        _ => {}
    }
    if all {
        control::signal_all(&container.record.cgroups, signal)?;
    } else {
        signal_init(&container, signal)?;
    }
    // A frozen process cannot die.
    if signal == Signal::KILL && control::is_frozen(&container.record.cgroups)? {
        control::freeze(&container.record.cgroups, false)?;
    }
    Ok(0)
}

fn not_running() -> Error {
    Error::new(Kind::State, "container not running")
}

/// Through a pidfd, and only if that is still the process we started.
pub(super) fn signal_init(container: &Container, signal: Signal) -> Result<()> {
    let Some(pid) = Pid::from_raw(container.record.init_process_pid) else { return Err(not_running()) };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Err(not_running()),
        Err(errno) => return Err(errno).context(|| "pidfd_open"),
    };
    if !container.is_alive() {
        return Err(not_running());
    }
    match rustix::process::pidfd_send_signal(&pidfd, signal) {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(not_running()),
        Err(errno) => {
            Err(errno).context(|| format!("unable to signal init: pidfd_send_signal({})", signal.as_raw()))
        }
    }
}
