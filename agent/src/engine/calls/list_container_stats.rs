//! ListContainerStats and StreamContainerStats: what the running containers that pass a filter use.

use super::{container_stats, id_matches, in_chunks, labels_match};
use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::records::ContainerRecord;
use knarr_cri::v1::{
    ContainerStats, ContainerStatsFilter, ListContainerStatsRequest, ListContainerStatsResponse,
    StreamContainerStatsRequest, StreamContainerStatsResponse,
};
use knarr_cri::{MessageStream, Status};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: ListContainerStatsRequest,
) -> Result<ListContainerStatsResponse, Status> {
    Ok(ListContainerStatsResponse { stats: list(core, request.filter.unwrap_or_default()).await? })
}

pub(crate) async fn stream(
    core: Arc<Core>,
    request: StreamContainerStatsRequest,
) -> Result<MessageStream<StreamContainerStatsResponse>, Status> {
    let found = list(core, request.filter.unwrap_or_default()).await?;
    Ok(in_chunks(found, |container_stats| StreamContainerStatsResponse { container_stats }))
}

async fn list(core: Arc<Core>, filter: ContainerStatsFilter) -> Result<Vec<ContainerStats>, Status> {
    blocking(move || {
        let mut containers = core.registry.containers();
        containers.retain(|container| container.record.with(|record| passes(record, &filter)));
        Ok(containers.iter().map(|container| container_stats::stats(&core, container)).collect())
    })
    .await
    .map_err(status)
}

fn passes(record: &ContainerRecord, filter: &ContainerStatsFilter) -> bool {
    record.is_running()
        && id_matches(&record.id, &filter.id)
        && id_matches(&record.sandbox_id, &filter.pod_sandbox_id)
        && labels_match(&record.config.labels, &filter.label_selector)
}
