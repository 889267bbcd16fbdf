//! `knarr update`: other limits for containers, running or not started yet, and another restart policy.

use super::each::each;
use super::facts::Facts;
use super::{Standalone, plan, restarts};
use crate::args::Update;
use crate::settings::Settings;
use anyhow::bail;
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};
use serde_json::Value;

/// Updates every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Update) -> anyhow::Result<()> {
    let resources = plan::limits::resources(&arguments.limits, None)?;
    if arguments.limits.pids_limit.is_some() || arguments.limits.memory_reservation.is_some() {
        bail!("update: --pids-limit and --memory-reservation are not supported yet");
    }
    let policy = match &arguments.restart {
        Some(text) => {
            let (policy, name) = restarts::parse(text)?;
            Some(restarts::document(policy, &name))
        }
        None => None,
    };
    let limited = resources != LinuxContainerResources::default();
    if !limited && policy.is_none() {
        bail!("you must provide one or more flags when using this command");
    }
    each(&arguments.names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        if let Some(policy) = &policy {
            follow(&place, policy).await?;
        }
        if limited {
            limit(&place, resources.clone()).await?;
        }
        place.tell("update", &[]).await;
        Ok(name.to_owned())
    })
    .await
}

/// From its next end on; one that has ended stays so until somebody starts it.
async fn follow(place: &Standalone, policy: &Value) -> anyhow::Result<()> {
    let facts = Facts::expect(place).await?;
    if facts.options["AutoRemove"] == true && restarts::of_document(policy) != restarts::Policy::No {
        bail!("Restart policy cannot be updated because AutoRemove is enabled for the container");
    }
    restarts::change(place.data_dir(), policy)
}

async fn limit(place: &Standalone, resources: LinuxContainerResources) -> anyhow::Result<()> {
    let request = UpdateContainerResourcesRequest {
        container_id: place.expect().await?.id,
        linux: Some(resources),
        ..Default::default()
    };
    place.engine.update_container_resources(request).await?;
    Ok(())
}
