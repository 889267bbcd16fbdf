//! `knarr stop`: the stop signal, a grace period, SIGKILL.

use super::Standalone;
use crate::args::Stop;
use crate::output;
use crate::settings::Settings;
use anyhow::bail;

/// Stops every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Stop) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in &arguments.names {
        match stop(&settings, name, arguments.time).await {
            Ok(()) => output::line(name),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

async fn stop(settings: &Settings, name: &str, seconds: i64) -> anyhow::Result<()> {
    Standalone::find(settings, name).await?.stop(seconds).await
}
