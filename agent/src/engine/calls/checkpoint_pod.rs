//! CheckpointPod: writes the running containers of a pod down as they are in one moment; the pod goes on.

use super::checkpoint_container::{DEFAULT_DEADLINE, check_running};
use crate::engine::blocking::blocking;
use crate::engine::checkpoint::pod::{self, PodDump};
use crate::engine::checkpoint::take::{Wanted, take};
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::registry::Container;
use anyhow::Context;
use knarr_cri::Status;
use knarr_cri::v1::{CheckpointPodRequest, CheckpointPodResponse, PodSandboxState};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: CheckpointPodRequest,
) -> Result<CheckpointPodResponse, Status> {
    let sandbox = core.registry.sandbox(&request.pod_sandbox_id)?;
    let directory = directory(&request.output_path)?;
    if sandbox.record.with(|record| record.state()) != PodSandboxState::SandboxReady {
        return Err(Status::failed_precondition(format!("sandbox {:?} is not ready", sandbox.id)));
    }
    let chosen = choose(&core, &sandbox.id, &request.container_ids)?;
    // Always in one order, so that two such calls do not wait for each other.
    let mut in_order: Vec<&Arc<Container>> = chosen.iter().collect();
    in_order.sort_by(|one, other| one.id.cmp(&other.id));
    let mut gates = Vec::new();
    for container in in_order {
        gates.push(container.gate.lock().await);
        check_running(container)?;
    }
    let names = names(&chosen)?;
    let wanted: Vec<Wanted> =
        chosen.iter().zip(&names).map(|(one, name)| (one.clone(), pod::archive(&directory, name))).collect();
    let place = directory.clone();
    blocking(move || make(&place)).await.map_err(status)?;
    take(&core, &wanted, DEFAULT_DEADLINE).await.map_err(status)?;
    let written = blocking(move || PodDump::of(names).write(&directory)).await;
    if written.is_err() {
        wanted.iter().for_each(|(_, archive)| drop(std::fs::remove_file(archive)));
    }
    written.map_err(status)?;
    Ok(CheckpointPodResponse {})
}

fn directory(text: &str) -> Result<PathBuf, Status> {
    let path = PathBuf::from(text);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Status::invalid_argument(format!("output_path: {text:?} is not an absolute path"))),
    }
}

/// Containers of the pod as they were made: those that are named, else all that run.
fn choose(core: &Core, sandbox: &str, ids: &[String]) -> Result<Vec<Arc<Container>>, Status> {
    let mut chosen = Vec::new();
    if ids.is_empty() {
        chosen = core.registry.containers_of(sandbox);
        chosen.retain(|container| container.record.with(|record| record.is_running()));
    }
    for id in ids {
        let container = core.registry.container(id)?;
        if container.sandbox_id != sandbox {
            return Err(Status::invalid_argument(format!(
                "container {:?} is not of sandbox {sandbox:?}",
                container.id
            )));
        }
        if !chosen.iter().any(|known: &Arc<Container>| known.id == container.id) {
            chosen.push(container);
        }
    }
    if chosen.is_empty() {
        return Err(Status::failed_precondition(format!("sandbox {sandbox:?} has no running containers")));
    }
    chosen.sort_by_key(|container| container.record.with(|record| record.created_at));
    Ok(chosen)
}

/// By which they are told apart when the pod is restored.
fn names(containers: &[Arc<Container>]) -> Result<Vec<String>, Status> {
    let name = |container: &Arc<Container>| {
        let metadata = container.record.with(|record| record.config.metadata.clone());
        metadata.unwrap_or_default().name
    };
    let names: Vec<String> = containers.iter().map(name).collect();
    let bad = |name: &String| Status::failed_precondition(format!("container name {name:?} is ambiguous"));
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !pod::is_file_name(name) || !seen.insert(*name)) {
        Some(name) => Err(bad(name)),
        None => Ok(names),
    }
}

/// Only its owner may look in, where it is not somebody else's.
fn make(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.with_context(|| format!("mkdir {}", directory.display()))
}
