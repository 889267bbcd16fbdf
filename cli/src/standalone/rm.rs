//! `knarr rm`: a container with its log, its snapshot and its address.

use super::each::each;
use super::{Standalone, is_running, places};
use crate::args::Rm;
use crate::output;
use crate::settings::Settings;
use anyhow::bail;

/// Removes every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Rm) -> anyhow::Result<()> {
    each(&arguments.names, async |name| {
        let missing = |error: &anyhow::Error| error.to_string() == places::no_such(name).to_string();
        match remove(&settings, name, &arguments).await {
            // Wanted gone, and gone: Docker says so, and fails not.
            Err(error) if arguments.force && missing(&error) => {
                output::complain(&format!("knarr: {error}"));
                Ok(None)
            }
            result => result.map(|()| Some(name.to_owned())),
        }
    })
    .await
}

async fn remove(settings: &Settings, name: &str, arguments: &Rm) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let running = place.container().await?.is_some_and(|container| is_running(&container));
    if running && !arguments.force {
        bail!(
            "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
            place.name()
        );
    }
    place.remove(settings, arguments.volumes).await
}
