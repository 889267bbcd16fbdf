//! `resume`: what was paused goes on.

use super::{Arguments, Global};
use crate::cgroups::control;
use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::state::Status;

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::open(&global.root, &id)?;
    if container.status()? != Status::Paused {
        return Err(Error::new(Kind::State, "container not paused"));
    }
    control::freeze(&container.record.cgroups, false)?;
    Ok(0)
}
