//! UpdatePodSandboxResources: the kubelet has rewritten the pod's cgroup and says so. The cgroup is the kubelet's, so
//! only the record changes.

use crate::engine::core::Core;
use crate::engine::failures::status;
use knarr_cri::Status;
use knarr_cri::v1::{UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: UpdatePodSandboxResourcesRequest,
) -> Result<UpdatePodSandboxResourcesResponse, Status> {
    let sandbox = core.registry.sandbox(&request.pod_sandbox_id)?;
    let _gate = sandbox.gate.read().await;
    let update = sandbox.record.update(move |record| {
        let linux = record.config.linux.get_or_insert_default();
        linux.overhead = request.overhead.or(linux.overhead.take());
        linux.resources = request.resources.or(linux.resources.take());
    });
    update.await.map_err(status)?;
    Ok(UpdatePodSandboxResourcesResponse {})
}
