//! `knarr kill`: a signal for the first process of running containers.

use super::Standalone;
use crate::args::Kill;
use crate::output;
use crate::settings::Settings;
use anyhow::bail;

/// Signals every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Kill) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in &arguments.names {
        match kill(&settings, name, &arguments.signal).await {
            Ok(()) => output::line(name),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

async fn kill(settings: &Settings, name: &str, signal: &str) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let container = place.running().await?;
    place.engine.signal(&container.id, signal).await
}
