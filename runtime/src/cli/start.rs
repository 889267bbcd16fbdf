//! `start`: opens the gate at which a created container's program waits.

use super::{Arguments, Flag, Global};
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::notify_socket::{self, NotifySocket};
use crate::plan::{HookKind, Side};
use crate::spec::Hooks;
use crate::state::Status;
use crate::timeline::{Moment, Timeline};

pub(super) const FLAGS: &[Flag] = &[Flag::value("timeline", None)];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::open(&global.root, &id)?;
    let mut timeline = Timeline::new(arguments.path("timeline").is_some(), Side::Runtime);
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(Error::new(Kind::State, "cannot start a container that has stopped")),
        Status::Running => return Err(Error::new(Kind::State, "cannot start an already running container")),
        other => {
            return Err(Error::new(
                Kind::State,
                format!("cannot start a container in the {} state", other.as_str()),
            ));
        }
    }
    // While init is sure to be there: the program may end at once.
    let notify = match NotifySocket::bind(&container.directory)? {
        Some(notify) => Some((notify, notify_socket::process(container.record.init_process_pid)?)),
        None => None,
    };
    let begun = timeline.begin();
    container.open_gate()?;
    let hooks = container.record.hooks.clone();
    if let Err(error) = poststart(&container, &hooks) {
        return Err(error.and(super::delete::force(&container, &hooks)));
    }
    timeline.end_moment(begun, Moment::Start);
    if let Some(file) = arguments.path("timeline") {
        timeline.merge_file(&file)?;
        timeline.write(&file)?;
    }
    // Others may look at and change it while it gets ready.
    let _container = container.unlocked();
    notify.map_or(Ok(()), |(notify, init)| notify.until_ready(&init))?;
    Ok(0)
}

/// Hooks that run once the program does; a failure ends the container.
pub(super) fn poststart(container: &Container, hooks: &Hooks) -> Result<()> {
    let list = HookKind::Poststart.of(hooks);
    if list.is_empty() {
        return Ok(());
    }
    let mut state = container.state_as(Status::Running);
    state.oci_version = crate::spec::VERSION.into();
    hooks::run(HookKind::Poststart.name(), list, &state).context(|| "unable to run poststart hooks")
}
