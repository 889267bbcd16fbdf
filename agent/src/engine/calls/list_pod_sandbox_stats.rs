//! ListPodSandboxStats and StreamPodSandboxStats: what the ready pods that pass a filter use.

use super::{id_matches, in_chunks, labels_match, pod_sandbox_stats};
use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::records::{SandboxPhase, SandboxRecord};
use knarr_cri::v1::{
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxStats, PodSandboxStatsFilter,
    StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse,
};
use knarr_cri::{MessageStream, Status};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: ListPodSandboxStatsRequest,
) -> Result<ListPodSandboxStatsResponse, Status> {
    Ok(ListPodSandboxStatsResponse { stats: list(core, request.filter.unwrap_or_default()).await? })
}

pub(crate) async fn stream(
    core: Arc<Core>,
    request: StreamPodSandboxStatsRequest,
) -> Result<MessageStream<StreamPodSandboxStatsResponse>, Status> {
    let found = list(core, request.filter.unwrap_or_default()).await?;
    Ok(in_chunks(found, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}

async fn list(core: Arc<Core>, filter: PodSandboxStatsFilter) -> Result<Vec<PodSandboxStats>, Status> {
    blocking(move || {
        let mut sandboxes = core.registry.sandboxes();
        sandboxes.retain(|sandbox| sandbox.record.with(|record| passes(record, &filter)));
        Ok(sandboxes.iter().map(|sandbox| pod_sandbox_stats::stats(&core, sandbox)).collect())
    })
    .await
    .map_err(status)
}

fn passes(record: &SandboxRecord, filter: &PodSandboxStatsFilter) -> bool {
    record.phase == SandboxPhase::Ready
        && id_matches(&record.id, &filter.id)
        && labels_match(&record.config.labels, &filter.label_selector)
}
