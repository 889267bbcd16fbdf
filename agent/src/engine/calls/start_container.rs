//! StartContainer: makes the process of a created container and lets it run.

use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::lifecycle::containers;
use knarr_cri::Status;
use knarr_cri::v1::{ContainerState, PodSandboxState, StartContainerRequest, StartContainerResponse};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: StartContainerRequest,
) -> Result<StartContainerResponse, Status> {
    let container = core.registry.container(&request.container_id)?;
    let sandbox = core.registry.sandbox(&container.sandbox_id)?;
    let _pod = sandbox.gate.read().await;
    let _gate = container.gate.lock().await;
    let state = container.record.with(|record| record.state());
    if state != ContainerState::ContainerCreated {
        return Err(Status::failed_precondition(format!(
            "container {:?} is in {} state",
            container.id,
            state.as_str_name()
        )));
    }
    if sandbox.record.with(|record| record.state()) != PodSandboxState::SandboxReady {
        return Err(Status::failed_precondition(format!(
            "sandbox container {:?} is not running",
            sandbox.id
        )));
    }
    containers::start(&core, &container).await.map_err(status)?;
    Ok(StartContainerResponse {})
}
