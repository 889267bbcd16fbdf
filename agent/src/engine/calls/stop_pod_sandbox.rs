//! StopPodSandbox: ends the pod's containers and gives its network back. An unknown pod is stopped already.

use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::lifecycle::{gates, sandboxes};
use knarr_cri::Status;
use knarr_cri::v1::{StopPodSandboxRequest, StopPodSandboxResponse};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: StopPodSandboxRequest,
) -> Result<StopPodSandboxResponse, Status> {
    if let Some(sandbox) = core.registry.find_sandbox(&request.pod_sandbox_id)? {
        let _gate = gates::of_sandbox(&core, &sandbox).await;
        sandboxes::stop(&core, &sandbox).await.map_err(status)?;
    }
    Ok(StopPodSandboxResponse {})
}
