//! `pause`: everything in the container stands still.

use super::{Arguments, Global};
use crate::cgroups::control;
use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::state::Status;

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::open(&global.root, &id)?;
    match container.status()? {
        Status::Running | Status::Created => control::freeze(&container.record.cgroups, true)?,
        status => {
            return Err(Error::new(
                Kind::State,
                format!("container not running or created: {}", status.as_str()),
            ));
        }
    }
    Ok(0)
}
