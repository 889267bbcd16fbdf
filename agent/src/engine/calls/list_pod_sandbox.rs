//! ListPodSandbox and StreamPodSandboxes: the pods that pass every part of a filter.

use super::{id_matches, in_chunks, labels_match};
use crate::engine::core::Core;
use crate::engine::records::SandboxRecord;
use knarr_cri::v1::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter, StreamPodSandboxesRequest,
    StreamPodSandboxesResponse,
};
use knarr_cri::{MessageStream, Status};

pub(crate) fn call(core: &Core, request: ListPodSandboxRequest) -> Result<ListPodSandboxResponse, Status> {
    Ok(ListPodSandboxResponse { items: list(core, &request.filter.unwrap_or_default()) })
}

pub(crate) fn stream(
    core: &Core,
    request: StreamPodSandboxesRequest,
) -> Result<MessageStream<StreamPodSandboxesResponse>, Status> {
    let found = list(core, &request.filter.unwrap_or_default());
    Ok(in_chunks(found, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
}

fn list(core: &Core, filter: &PodSandboxFilter) -> Vec<PodSandbox> {
    let sandboxes = core.registry.sandboxes();
    let shown = |record: &SandboxRecord| passes(record, filter).then(|| item(record));
    sandboxes.iter().filter_map(|sandbox| sandbox.record.with(shown)).collect()
}

fn passes(record: &SandboxRecord, filter: &PodSandboxFilter) -> bool {
    id_matches(&record.id, &filter.id)
        && filter.state.is_none_or(|wanted| wanted.state == record.state() as i32)
        && labels_match(&record.config.labels, &filter.label_selector)
}

fn item(record: &SandboxRecord) -> PodSandbox {
    PodSandbox {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: record.state() as i32,
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
    }
}
