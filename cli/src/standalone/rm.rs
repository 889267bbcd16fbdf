//! `knarr rm`: a container with its log, its snapshot and its address.

use super::Standalone;
use crate::args::Rm;
use crate::output;
use crate::settings::Settings;
use anyhow::bail;
use knarr_agent::cri::v1::ContainerState;

/// Removes every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Rm) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in &arguments.names {
        match remove(&settings, name, arguments.force).await {
            Ok(()) => output::line(name),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

async fn remove(settings: &Settings, name: &str, force: bool) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let running =
        place.container().await?.is_some_and(|c| c.state == ContainerState::ContainerRunning as i32);
    if running && !force {
        bail!("container {name} is running: stop it first, or use --force");
    }
    place.remove().await
}
