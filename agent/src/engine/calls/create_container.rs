//! CreateContainer: a container's snapshot, mounts and `config.json`; its process is made at the start.
//!
//! Asking again with the same name and configuration answers the same container as long as it was not started.

use crate::engine::checkpoint::source;
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::records::{ContainerRecord, SandboxRecord, container_name_key};
use crate::engine::{blocking::blocking, bundle, events, ids};
use anyhow::Context;
use knarr_cri::Status;
use knarr_cri::v1::{
    ContainerConfig, ContainerEventType, ContainerState, CreateContainerRequest, CreateContainerResponse,
    PodSandboxState,
};
use knarr_images::Image;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: CreateContainerRequest,
) -> Result<CreateContainerResponse, Status> {
    create(core, request, None).await
}

/// The same for a container that goes on from an archive, where there is one.
pub(super) async fn create(
    core: Arc<Core>,
    request: CreateContainerRequest,
    archive: Option<PathBuf>,
) -> Result<CreateContainerResponse, Status> {
    let config = request.config.ok_or_else(|| Status::invalid_argument("config is required"))?;
    check(&config)?;
    let sandbox = core.registry.sandbox(&request.pod_sandbox_id)?;
    let _gate = sandbox.gate.read().await;
    let pod = sandbox.record.get();
    if pod.state() != PodSandboxState::SandboxReady {
        return Err(Status::failed_precondition(format!("sandbox {:?} is not ready", sandbox.id)));
    }
    let id = match &core.config.engine.container_id {
        Some(id) => id.clone(),
        None => ids::new_id().map_err(|error| Status::internal(error.to_string()))?,
    };
    let name = container_name_key(&sandbox.id, &config);
    if let Err(owner) = core.registry.reserve(&name, &id) {
        return existing(&core, &owner, &name, &config);
    }
    match make(&core, &id, pod, config, archive).await {
        Ok(record) => {
            let container = core.registry.insert_container(record);
            events::tell(&core, &id, &container.sandbox_id, ContainerEventType::ContainerCreatedEvent);
            Ok(CreateContainerResponse { container_id: id })
        }
        Err(error) => {
            core.registry.release(&id);
            Err(status(error))
        }
    }
}

/// Makes the bundle and the record, or neither.
async fn make(
    core: &Arc<Core>,
    id: &str,
    pod: SandboxRecord,
    config: ContainerConfig,
    archive: Option<PathBuf>,
) -> anyhow::Result<ContainerRecord> {
    let name = config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
    let checkpoint = match archive {
        None => source::lay_out(core, id, &name).await,
        Some(archive) => source::lay_out_archive(core, id, archive).await.map(Some),
    };
    let (core, id) = (core.clone(), id.to_owned());
    blocking(move || {
        let mounts = config.mounts.len();
        let made = match checkpoint {
            Ok(Some(base)) => make_restorable(&core, &id, &pod, &config, &base),
            Ok(None) => make_bundle(&core, &id, &pod, &config),
            Err(error) => Err(error),
        };
        if made.is_err()
            && let Err(left) = bundle::remove(&core, &id, mounts)
        {
            tracing::error!("container {id}: undoing a failed creation: {left:#}");
        }
        made
    })
    .await
}

fn make_bundle(
    core: &Core,
    id: &str,
    pod: &SandboxRecord,
    config: &ContainerConfig,
) -> anyhow::Result<ContainerRecord> {
    let name = config.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
    let image = core.images.find(name).with_context(|| format!("failed to resolve image {name:?}"))?;
    let image =
        image.ok_or_else(|| Status::not_found(format!("failed to resolve image {name:?}: not found")))?;
    let record = bundle::make(core, id, pod, config, &image)?;
    make_log_directory(&record)?;
    core.registry.container_records.put(id, &record)?;
    Ok(record)
}

/// The same for a container that goes on from a checkpoint.
fn make_restorable(
    core: &Core,
    id: &str,
    pod: &SandboxRecord,
    config: &ContainerConfig,
    base: &Image,
) -> anyhow::Result<ContainerRecord> {
    let record = bundle::make_from_checkpoint(core, id, pod, config, base)?;
    make_log_directory(&record)?;
    source::fit(core, &record, &bundle::read_spec(core, id)?)?;
    core.registry.container_records.put(id, &record)?;
    Ok(record)
}

fn make_log_directory(record: &ContainerRecord) -> anyhow::Result<()> {
    match record.log_path.as_ref().and_then(|path| path.parent()) {
        Some(directory) => {
            std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))
        }
        None => Ok(()),
    }
}

fn existing(
    core: &Core,
    owner: &str,
    name: &str,
    config: &ContainerConfig,
) -> Result<CreateContainerResponse, Status> {
    let same = core.registry.container(owner).is_ok_and(|container| {
        container
            .record
            .with(|record| record.state() == ContainerState::ContainerCreated && record.config == *config)
    });
    if same {
        return Ok(CreateContainerResponse { container_id: owner.to_owned() });
    }
    Err(Status::already_exists(format!(
        "failed to reserve container name {name:?}: name {name:?} is reserved for {owner:?}"
    )))
}

fn check(config: &ContainerConfig) -> Result<(), Status> {
    if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
        return Err(Status::invalid_argument("container config metadata is required"));
    }
    if config.image.as_ref().is_none_or(|image| image.image.is_empty()) {
        return Err(Status::invalid_argument("config.image is required"));
    }
    if config.tty && config.linux.is_none() && config.windows.is_some() {
        return Err(Status::invalid_argument("config.windows: this node runs Linux containers"));
    }
    Ok(())
}
