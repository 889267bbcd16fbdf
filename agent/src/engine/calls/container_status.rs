//! ContainerStatus: one container as it is now.

use crate::engine::core::Core;
use crate::engine::records::ContainerRecord;
use crate::engine::{bundle, stop_signal};
use knarr_cri::Status;
use knarr_cri::v1::{
    ContainerResources, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse, ContainerUser,
    ImageSpec, LinuxContainerUser,
};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) async fn call(
    core: &Arc<Core>,
    request: ContainerStatusRequest,
) -> Result<ContainerStatusResponse, Status> {
    let container = core.registry.container(&request.container_id)?;
    let record = container.record.get();
    let info = if request.verbose { info(core, &record).await } else { HashMap::new() };
    Ok(ContainerStatusResponse { status: Some(status(&record)), info })
}

/// The record in CRI's words.
pub(crate) fn status(record: &ContainerRecord) -> ContainerStatus {
    let exit = record.exit.clone();
    ContainerStatus {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: record.state() as i32,
        created_at: record.created_at,
        started_at: record.started_at,
        finished_at: exit.as_ref().map_or(0, |exit| exit.finished_at),
        exit_code: exit.as_ref().map_or(0, |exit| exit.code),
        image: Some(image(record)),
        image_ref: record.image_ref.clone(),
        reason: exit.as_ref().map(|exit| exit.reason.clone()).unwrap_or_default(),
        message: exit.map(|exit| exit.message).unwrap_or_default(),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        mounts: record.mounts.clone(),
        log_path: record
            .log_path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        resources: record
            .resources()
            .map(|linux| ContainerResources { linux: Some(linux.clone()), windows: None }),
        image_id: record.image_id.clone(),
        user: Some(user(record)),
        stop_signal: stop_signal::to_cri(&record.stop_signal) as i32,
    }
}

/// The image under the name the user wrote, where the kubelet passed it on.
fn image(record: &ContainerRecord) -> ImageSpec {
    let mut image = record.config.image.clone().unwrap_or_default();
    if !image.user_specified_image.is_empty() {
        image.image = image.user_specified_image.clone();
    }
    image
}

fn user(record: &ContainerRecord) -> ContainerUser {
    let linux = LinuxContainerUser {
        uid: record.user.uid.into(),
        gid: record.user.gid.into(),
        supplemental_groups: record.user.groups.iter().map(|&group| group.into()).collect(),
    };
    ContainerUser { linux: Some(linux) }
}

async fn info(core: &Arc<Core>, record: &ContainerRecord) -> HashMap<String, String> {
    let (shared, id) = (core.clone(), record.id.clone());
    let spec = crate::engine::blocking::blocking(move || bundle::read_spec(&shared, &id)).await.ok();
    let info = serde_json::json!({
        "sandboxID": record.sandbox_id,
        "pid": record.pid,
        "privileged": record.config.linux.as_ref().and_then(|linux| Some(linux.security_context.as_ref()?.privileged)),
        "snapshotKey": record.id,
        "config": record.config,
        "runtimeSpec": spec,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}
