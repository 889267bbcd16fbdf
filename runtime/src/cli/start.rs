//! `start`: opens the gate at which a created container's program waits.

use super::{Arguments, Global};
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::plan::HookKind;
use crate::spec::Hooks;
use crate::state::Status;

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments, "start")?;
    let container = Container::open(&global.root, &id)?;
    match container.status()? {
        Status::Created => container.open_gate()?,
        Status::Stopped => return Err(Error::new(Kind::State, "cannot start a container that has stopped")),
        Status::Running => return Err(Error::new(Kind::State, "cannot start an already running container")),
        other => {
            return Err(Error::new(
                Kind::State,
                format!("cannot start a container in the {} state", other.as_str()),
            ));
        }
    }
    let hooks = container.record.hooks.clone();
    if let Err(error) = poststart(&container, &hooks) {
        return Err(error.and(super::delete::force(&container, &hooks)));
    }
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
