//! `knarr update`: other limits for containers, running or not started yet.

use super::each::each;
use super::{Standalone, plan};
use crate::args::Update;
use crate::settings::Settings;
use anyhow::bail;
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};

/// Updates every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Update) -> anyhow::Result<()> {
    let resources = plan::limits::resources(&arguments.limits, None)?;
    if arguments.limits.pids_limit.is_some() || arguments.limits.memory_reservation.is_some() {
        bail!("update: --pids-limit and --memory-reservation are not supported yet");
    }
    if resources == LinuxContainerResources::default() {
        bail!("you must provide one or more flags when using this command");
    }
    each(&arguments.names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        let request = UpdateContainerResourcesRequest {
            container_id: place.expect().await?.id,
            linux: Some(resources.clone()),
            ..Default::default()
        };
        place.engine.update_container_resources(request).await?;
        place.tell("update", &[]).await;
        Ok(name.to_owned())
    })
    .await
}
