//! UpdateContainerResources: changes the limits of a container, all or (on an error) none as far as the record goes.
//!
//! A running one is changed through the runtime; one that was not started gets a new `config.json`.

use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::registry::Container;
use crate::engine::spec::{merge_resources, oci_resources};
use crate::engine::{blocking::blocking, relimit};
use knarr_cri::Status;
use knarr_cri::v1::{
    ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest,
    UpdateContainerResourcesResponse,
};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: UpdateContainerResourcesRequest,
) -> Result<UpdateContainerResourcesResponse, Status> {
    let container = core.registry.container(&request.container_id)?;
    let Some(update) = request.linux else { return Ok(UpdateContainerResourcesResponse {}) };
    let _gate = container.gate.lock().await;
    let record = container.record.get();
    let merged = merge_resources(&record.resources().cloned().unwrap_or_default(), &update);
    match record.state() {
        ContainerState::ContainerRunning => {
            let resources = oci_resources(&update, &core.host);
            let runtime = core.runtime_of(&container.sandbox_id).map_err(status)?;
            runtime.update(&container.id, &resources).await.map_err(status)?;
        }
        ContainerState::ContainerCreated => rewrite(&core, &container, &merged).await.map_err(status)?,
        ContainerState::ContainerExited | ContainerState::ContainerUnknown => {
            return Err(Status::failed_precondition(format!("container {:?} has exited", container.id)));
        }
    }
    let recorded = container.record.update(move |record| {
        record.config.linux.get_or_insert_default().resources = Some(merged);
    });
    recorded.await.map_err(status)?;
    Ok(UpdateContainerResourcesResponse {})
}

async fn rewrite(
    core: &Arc<Core>,
    container: &Container,
    merged: &LinuxContainerResources,
) -> anyhow::Result<()> {
    let resources = oci_resources(merged, &core.host);
    let (core, id) = (core.clone(), container.id.clone());
    blocking(move || relimit::write(&core, &id, &resources)).await
}
