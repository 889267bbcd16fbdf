//! ListPodSandboxMetrics and StreamPodSandboxMetrics: the metrics of every ready pod and its running containers.

use super::in_chunks;
use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::metrics;
use crate::engine::records::SandboxPhase;
use crate::engine::registry::Sandbox;
use knarr_cri::v1::{
    ContainerMetrics, ListPodSandboxMetricsResponse, PodSandboxMetrics, StreamPodSandboxMetricsResponse,
};
use knarr_cri::{MessageStream, Status};
use std::sync::Arc;

pub(crate) async fn call(core: Arc<Core>) -> Result<ListPodSandboxMetricsResponse, Status> {
    Ok(ListPodSandboxMetricsResponse { pod_metrics: list(core).await? })
}

pub(crate) async fn stream(
    core: Arc<Core>,
) -> Result<MessageStream<StreamPodSandboxMetricsResponse>, Status> {
    let found = list(core).await?;
    Ok(in_chunks(found, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
}

async fn list(core: Arc<Core>) -> Result<Vec<PodSandboxMetrics>, Status> {
    blocking(move || {
        let mut sandboxes = core.registry.sandboxes();
        sandboxes.retain(|sandbox| sandbox.record.with(|record| record.phase == SandboxPhase::Ready));
        Ok(sandboxes.iter().map(|sandbox| of_sandbox(&core, sandbox)).collect())
    })
    .await
    .map_err(status)
}

fn of_sandbox(core: &Core, sandbox: &Sandbox) -> PodSandboxMetrics {
    let pod = sandbox.record.get();
    let mut containers: Vec<_> =
        core.registry.containers_of(&sandbox.id).iter().map(|container| container.record.get()).collect();
    containers.retain(|record| record.is_running());
    let pid = containers.iter().find_map(|record| record.pid);
    PodSandboxMetrics {
        pod_sandbox_id: pod.id.clone(),
        metrics: metrics::of_pod(core, &pod, pid),
        container_metrics: containers
            .iter()
            .map(|record| ContainerMetrics {
                container_id: record.id.clone(),
                metrics: metrics::of_container(core, &pod, record),
            })
            .collect(),
    }
}
