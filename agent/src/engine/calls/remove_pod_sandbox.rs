//! RemovePodSandbox: stops the pod and removes every trace of it. An unknown pod is removed already.

use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::lifecycle::{gates, sandboxes};
use knarr_cri::Status;
use knarr_cri::v1::{RemovePodSandboxRequest, RemovePodSandboxResponse};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: RemovePodSandboxRequest,
) -> Result<RemovePodSandboxResponse, Status> {
    if let Some(sandbox) = core.registry.find_sandbox(&request.pod_sandbox_id)? {
        let _gate = gates::of_sandbox(&core, &sandbox).await;
        sandboxes::remove(&core, &sandbox).await.map_err(status)?;
    }
    Ok(RemovePodSandboxResponse {})
}
