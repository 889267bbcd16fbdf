//! ListContainers and StreamContainers: the containers that pass every part of a filter.

use super::{id_matches, in_chunks, labels_match};
use crate::engine::core::Core;
use crate::engine::records::ContainerRecord;
use knarr_cri::v1::{
    Container, ContainerFilter, ListContainersRequest, ListContainersResponse, StreamContainersRequest,
    StreamContainersResponse,
};
use knarr_cri::{MessageStream, Status};

pub(crate) fn call(core: &Core, request: ListContainersRequest) -> Result<ListContainersResponse, Status> {
    Ok(ListContainersResponse { containers: list(core, &request.filter.unwrap_or_default()) })
}

pub(crate) fn stream(
    core: &Core,
    request: StreamContainersRequest,
) -> Result<MessageStream<StreamContainersResponse>, Status> {
    let found = list(core, &request.filter.unwrap_or_default());
    Ok(in_chunks(found, |containers| StreamContainersResponse { containers }))
}

fn list(core: &Core, filter: &ContainerFilter) -> Vec<Container> {
    let containers = core.registry.containers();
    let shown = |record: &ContainerRecord| passes(record, filter).then(|| item(record));
    containers.iter().filter_map(|container| container.record.with(shown)).collect()
}

fn passes(record: &ContainerRecord, filter: &ContainerFilter) -> bool {
    id_matches(&record.id, &filter.id)
        && id_matches(&record.sandbox_id, &filter.pod_sandbox_id)
        && filter.state.is_none_or(|wanted| wanted.state == record.state() as i32)
        && labels_match(&record.config.labels, &filter.label_selector)
}

fn item(record: &ContainerRecord) -> Container {
    Container {
        id: record.id.clone(),
        pod_sandbox_id: record.sandbox_id.clone(),
        metadata: record.config.metadata.clone(),
        image: record.config.image.clone(),
        image_ref: record.image_id.clone(),
        state: record.state() as i32,
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        image_id: record.image_id.clone(),
    }
}
