//! RunPodSandbox: a pod's namespaces, files, monitor and network.
//!
//! Asking again for a pod that runs (after a deadline that passed on the way) answers its id; asking while the first
//! request is under way waits for it, and tries by itself if that one fails. A name that another configuration holds
//! is refused.

use crate::engine::core::{Core, now};
use crate::engine::failures::status;
use crate::engine::lifecycle::sandboxes;
use crate::engine::records::{SandboxPhase, SandboxRecord, name_key};
use crate::engine::registry::Sandbox;
use crate::engine::{blocking::blocking, cgroups, events, ids, pod_files, pod_namespaces, pod_user};
use anyhow::Context;
use knarr_cri::Status;
use knarr_cri::v1::{ContainerEventType, PodSandboxConfig, RunPodSandboxRequest, RunPodSandboxResponse};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: RunPodSandboxRequest,
) -> Result<RunPodSandboxResponse, Status> {
    let (sandbox, _gate) = loop {
        // Anew each time: what the one before made, or took away, counts.
        let record = new_record(&core, request.clone())?;
        match core.registry.begin_sandbox(record.clone()).await {
            Ok(begun) => break begun,
            Err(owner) => {
                if let Some(answer) = existing(&core, &owner, &record).await? {
                    return Ok(answer);
                }
            }
        }
    };
    let id = sandbox.id.clone();
    match start(&core, &sandbox).await {
        Ok(()) => Ok(RunPodSandboxResponse { pod_sandbox_id: id }),
        Err(error) => {
            // What cannot be undone now stays in the registry, stopped, for a later removal.
            if let Err(left) = sandboxes::remove(&core, &sandbox).await {
                tracing::error!("sandbox {id}: undoing a failed start: {left:#}");
                core.registry.release(&id);
                drop(sandbox.record.update(|record| record.phase = SandboxPhase::Stopped).await);
            }
            Err(status(error))
        }
    }
}

async fn start(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> anyhow::Result<()> {
    // On disk before anything is made, so that a crash leaves nothing nameless.
    let (shared, record) = (core.clone(), sandbox.record.get());
    blocking(move || shared.registry.sandbox_records.put(&record.id, &record)).await?;
    let addresses = sandboxes::set_up(core, sandbox).await?;
    let ready = sandbox.record.update(move |record| {
        record.addresses = addresses;
        record.phase = SandboxPhase::Ready;
    });
    ready.await.context("recording the sandbox")?;
    for kind in [ContainerEventType::ContainerCreatedEvent, ContainerEventType::ContainerStartedEvent] {
        events::tell(core, &sandbox.id, &sandbox.id, kind);
    }
    Ok(())
}

/// The answer to a repeated request; absent where the pod that had the name has failed meanwhile, and left it.
async fn existing(
    core: &Core,
    owner: &str,
    wanted: &SandboxRecord,
) -> Result<Option<RunPodSandboxResponse>, Status> {
    let same = match core.registry.sandbox(owner) {
        Ok(sandbox) => {
            let _set_up = sandbox.gate.read().await;
            sandbox.record.with(|record| {
                record.phase == SandboxPhase::Ready
                    && record.config == wanted.config
                    && record.runtime_handler == wanted.runtime_handler
            })
        }
        Err(_) => false,
    };
    let name = wanted.name_key();
    match (same, core.registry.owner_of(&name).as_deref() == Some(owner)) {
        (true, true) => Ok(Some(RunPodSandboxResponse { pod_sandbox_id: owner.to_owned() })),
        (_, false) => Ok(None),
        (false, true) => Err(Status::already_exists(format!(
            "failed to reserve sandbox name {name:?}: name {name:?} is reserved for {owner:?}"
        ))),
    }
}

fn new_record(core: &Core, request: RunPodSandboxRequest) -> Result<SandboxRecord, Status> {
    let config = request.config.ok_or_else(|| Status::invalid_argument("config is required"))?;
    check(core, &config, &request.runtime_handler)?;
    let id = ids::new_id().map_err(|error| Status::internal(error.to_string()))?;
    let requested = config.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default();
    let cgroup_parent = cgroups::parent_of(&requested, &id);
    let record = SandboxRecord {
        // A slice is systemd's.
        owns_cgroup_parent: cgroups::slice(&cgroup_parent).is_none()
            && !core.hierarchies.exists(&cgroup_parent),
        id,
        created_at: now(),
        boot_id: core.host.boot_id.clone(),
        phase: SandboxPhase::Starting,
        config,
        runtime_handler: request.runtime_handler,
        cgroup_parent,
        addresses: Vec::new(),
    };
    pod_namespaces::check_sysctls(&record)?;
    Ok(record)
}

fn check(core: &Core, config: &PodSandboxConfig, handler: &str) -> Result<(), Status> {
    if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
        return Err(Status::invalid_argument(format!(
            "sandbox config metadata is required: {:?}",
            name_key(config)
        )));
    }
    core.runtime(handler)?;
    pod_files::check(config)?;
    pod_user::check(config)?;
    let parent = config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
    if parent.split('/').any(|part| part == "..") {
        return Err(Status::invalid_argument(format!("cgroup_parent {parent:?} must not contain '..'")));
    }
    if cgroups::slice(parent).is_some_and(|slice| !cgroups::takes_pods(slice)) {
        return Err(Status::invalid_argument(format!("cgroup_parent {parent:?}: invalid slice name")));
    }
    Ok(())
}
