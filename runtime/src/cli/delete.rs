//! `delete`: everything that is left of a container.

use super::{Arguments, Flag, Global};
use crate::cgroups::{Cgroups, control};
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::plan::HookKind;
use crate::spec::Hooks;
use crate::state::Status;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

pub(super) const FLAGS: &[Flag] = &[Flag::switch("force", Some('f'))];

/// How long a killed init may take to be gone, in seconds.
const DEADLINE: i64 = 10;

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let forced = arguments.has("force");
    let container = match Container::open(&global.root, &id) {
        Ok(container) => container,
        Err(error) if error.kind() == Kind::NotFound && forced => {
            // A directory without a record is what a killed `create` leaves.
            if crate::container::check_id(&id).is_ok() {
                remove_leftovers(global, &id)?;
            }
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let hooks = container.record.hooks.clone();
    match container.status()? {
        Status::Stopped => remove(&container, &hooks)?,
        // It cannot be waited for by anybody: it never started.
        Status::Created => force(&container, &hooks)?,
        Status::Creating if forced => force(&container, &hooks)?,
        _ if forced => force(&container, &hooks)?,
        status => {
            let why = format!("cannot delete container {id} that is not stopped: {}", status.as_str());
            return Err(Error::new(Kind::State, why));
        }
    }
    Ok(0)
}

fn remove_leftovers(global: &Global, id: &str) -> Result<()> {
    match std::fs::remove_dir_all(global.root.join(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| "remove state directory")
        }
        _ => Ok(()),
    }
}

/// Kills it first.
pub(super) fn force(container: &Container, hooks: &Hooks) -> Result<()> {
    let killed = match super::kill::signal_init(container, Signal::KILL) {
        Err(error) if error.kind() == Kind::State => Ok(()),
        other => other,
    };
    let others = control::signal_all(&container.record.cgroups, Signal::KILL);
    if control::is_frozen(&container.record.cgroups)? {
        control::freeze(&container.record.cgroups, false)?;
    }
    await_end(container)?;
    let removed = remove(container, hooks);
    Error::all([killed, others, removed].into_iter().filter_map(Result::err).collect())
}

/// A dead init holds its cgroup until the kernel is done with it.
fn await_end(container: &Container) -> Result<()> {
    let Some(pid) = Pid::from_raw(container.record.init_process_pid) else { return Ok(()) };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if !container.is_alive() {
        return Ok(());
    }
    let timeout = Timespec { tv_sec: DEADLINE, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))
    })
    .context(|| "poll(<pidfd>)")?;
    if container.is_alive() {
        return Err(Error::new(Kind::Os, "container init still running"));
    }
    Ok(())
}

/// What a stopped container leaves: processes that lost their init, cgroups, the record. All is tried.
pub(super) fn remove(container: &Container, hooks: &Hooks) -> Result<()> {
    let cgroups = &container.record.cgroups;
    let emptied =
        if cgroups.scope.is_none() && control::remove_empty(cgroups) { Ok(()) } else { empty(cgroups) };
    let group = container.record.resctrl.as_ref().map_or(Ok(()), |group| group.remove());
    let unmounted = container.unmount();
    let directory = container.remove_directory();
    let list = HookKind::Poststop.of(hooks);
    let mut state = container.state_as(Status::Stopped);
    state.oci_version = crate::spec::VERSION.into();
    let ran = if list.is_empty() { Ok(()) } else { hooks::run(HookKind::Poststop.name(), list, &state) };
    Error::all([emptied, group, unmounted, directory, ran].into_iter().filter_map(Result::err).collect())
}

/// Cgroups that could not go at once: somebody lives in them still, or made some below.
fn empty(cgroups: &Cgroups) -> Result<()> {
    let killed = match control::processes(cgroups) {
        Ok(pids) if pids.is_empty() => Ok(()),
        Ok(_) => control::signal_all(cgroups, Signal::KILL),
        Err(error) => Err(error),
    };
    Error::all([killed, control::remove(cgroups)].into_iter().filter_map(Result::err).collect())
}
