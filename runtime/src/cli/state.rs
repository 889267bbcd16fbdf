//! `state`: what a container is doing, as JSON.

use super::{Arguments, Global};
use crate::container::Container;
use crate::error::{Error, Result};

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let state = Container::peek(&global.root, &id)?.state()?;
    let text = serde_json::to_string_pretty(&state).map_err(|error| Error::invalid(error.to_string()))?;
    super::print(&text)
}
