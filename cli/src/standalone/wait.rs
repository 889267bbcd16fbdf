//! `knarr wait`: blocks until containers have ended; prints their exit codes.

use super::Standalone;
use crate::output;
use crate::settings::Settings;
use knarr_agent::cri::v1::ContainerState;

/// Waits for one after the other.
pub(crate) async fn run(settings: Settings, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        output::line(&exit_code(&settings, name).await?.to_string());
    }
    Ok(())
}

async fn exit_code(settings: &Settings, name: &str) -> anyhow::Result<i32> {
    let place = Standalone::find(settings, name).await?;
    if let Some(container) = place.container().await?
        && container.state == ContainerState::ContainerRunning as i32
    {
        return Ok(place.monitors.wait(&container.pod_sandbox_id, &container.id).await?.code);
    }
    Ok(place.status().await?.map_or(0, |status| status.exit_code))
}
