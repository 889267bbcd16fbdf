//! `create`: everything but the program itself, which waits for `start`.

use super::launch;
use super::{Arguments, Flag, Global};
use crate::error::{Context, Result};

pub(super) const FLAGS: &[Flag] = launch::FLAGS;

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    launch::protect_ourselves(arguments)?;
    create(global, arguments).context(|| "runc create failed")
}

fn create(global: &Global, arguments: &Arguments) -> Result<u8> {
    let mut bundle = launch::read_bundle(arguments)?;
    let console = launch::console(&bundle, arguments, true)?;
    let launched = launch::launch(global, arguments, &mut bundle, console, true)?;
    if let Some(file) = arguments.path("timeline") {
        launched.created.timeline.write(&file)?;
    }
    Ok(0)
}
