//! `knarr kill`: a signal for the first process of running containers.

use super::Standalone;
use super::each::each;
use crate::args::Kill;
use crate::settings::Settings;
use anyhow::Context;
use knarr_agent::cri::v1::Signal;
use knarr_agent::engine::direct::signal_named;
use std::time::Duration;

/// Killed processes can hang in the kernel; the signal has been sent all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Signals every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Kill) -> anyhow::Result<()> {
    let signal = signal_named(&arguments.signal);
    let signal = signal.with_context(|| format!("Invalid signal: {}", arguments.signal))?;
    each(&arguments.names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        let container = place
            .running()
            .await
            .map_err(|error| anyhow::anyhow!("Cannot kill container: {name}: {error}"))?;
        place.stays_ended()?;
        place.tell_kill(&container, &arguments.signal).await;
        place.engine.signal(&container.id, &arguments.signal).await?;
        if signal == Signal::Sigkill {
            let ended = place.monitors.wait(&container.pod_sandbox_id, &container.id);
            let _late = tokio::time::timeout(PATIENCE, ended).await;
            place.tell_end().await;
        }
        Ok(name.to_owned())
    })
    .await
}
