//! Sandboxes: namespaces, files, monitor and network made together, and taken down again whatever is left of them.

use super::{containers, leftovers};
use crate::engine::core::Core;
use crate::engine::failures::{DeadlineExceeded, Failures};
use crate::engine::network::{self, PodAttachment};
use crate::engine::records::{SandboxPhase, SandboxRecord};
use crate::engine::registry::Sandbox;
use crate::engine::{blocking::blocking, cgroups, events, pod_files, pod_init, pod_namespaces};
use anyhow::Context;
use knarr_cri::v1::ContainerEventType;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Links and rules take milliseconds; a CNI plugin may ask a far away address server.
const NETWORK_DEADLINE: Duration = Duration::from_secs(60);

/// Makes everything a pod needs before its first container; the gate is held exclusively by the caller.
pub(crate) async fn set_up(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> anyhow::Result<Vec<IpAddr>> {
    let record = sandbox.record.get();
    make_directory(core, &sandbox.id).await?;
    // Of each pair both run to their end even if the other fails: a half-cancelled step could finish after the teardown.
    let (monitor, pinned) = tokio::join!(core.monitors.ensure(&sandbox.id), pin(core, &record));
    monitor.context("starting the pod's monitor")?;
    pinned?;
    let (addresses, init) = tokio::join!(attach(core, &record), start_init(core, &record));
    let addresses = addresses?;
    init?;
    pod_init::watch(core, sandbox);
    Ok(addresses)
}

/// Makes again what a reboot took, but for the network (`reconnect`); the gate is held exclusively by the caller.
pub(crate) async fn set_up_again(core: &Arc<Core>, sandbox: &Sandbox) -> anyhow::Result<()> {
    make_directory(core, &sandbox.id).await?;
    core.monitors.ensure(&sandbox.id).await.context("starting the pod's monitor")?;
    pin(core, &sandbox.record.get()).await
}

async fn make_directory(core: &Core, id: &str) -> anyhow::Result<()> {
    let directory = core.paths.pod(id);
    blocking(move || Ok(std::fs::create_dir_all(directory)?)).await.context("making the pod's directory")
}

async fn start_init(core: &Arc<Core>, record: &SandboxRecord) -> anyhow::Result<()> {
    if pod_init::is_wanted(record) { pod_init::start(core, record).await } else { Ok(()) }
}

/// Namespaces and files; the network and the pod's init need them.
async fn pin(core: &Arc<Core>, record: &SandboxRecord) -> anyhow::Result<()> {
    let (shared, record) = (core.clone(), record.clone());
    blocking(move || {
        let monitor = shared.config.monitor_binary.as_deref();
        pod_namespaces::pin(&shared.paths, &record, &pod_files::hostname(&record), monitor)?;
        pod_files::make(&shared.paths, &record)
    })
    .await
}

async fn attach(core: &Core, record: &SandboxRecord) -> anyhow::Result<Vec<IpAddr>> {
    if !record.has_link() {
        if !record.host_network() {
            let netns = core.paths.namespace(&record.id, "net");
            blocking(move || network::loopback_alone(&netns)).await?;
        }
        return Ok(Vec::new());
    }
    tokio::time::timeout(NETWORK_DEADLINE, core.network.setup(&attachment(core, record)))
        .await
        .map_err(|_| DeadlineExceeded("failed to setup network for sandbox".into()))?
        .context("failed to setup network for sandbox")
}

fn attachment(core: &Core, record: &SandboxRecord) -> PodAttachment {
    let metadata = record.config.metadata.clone().unwrap_or_default();
    PodAttachment {
        sandbox_id: record.id.clone(),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        netns: core.paths.namespace(&record.id, "net"),
        host_ports: network::host_ports(&record.config.port_mappings),
        annotations: record.config.annotations.clone().into_iter().collect(),
    }
}

/// Takes a pod out of its network for a while; the gate is held by the caller.
pub(crate) async fn disconnect(core: &Arc<Core>, sandbox: &Sandbox) -> anyhow::Result<()> {
    if !sandbox.record.with(SandboxRecord::has_link) {
        return Ok(());
    }
    core.network.release(&sandbox.id).await.context("releasing the network")?;
    sandbox.record.update(|record| record.addresses.clear()).await
}

/// Gives it a network again; the gate is held by the caller.
pub(crate) async fn reconnect(core: &Arc<Core>, sandbox: &Sandbox) -> anyhow::Result<Vec<IpAddr>> {
    let addresses = attach(core, &sandbox.record.get()).await?;
    let recorded = addresses.clone();
    sandbox.record.update(move |record| record.addresses = recorded).await?;
    Ok(addresses)
}

/// Ends every container and gives network and namespaces back. Idempotent; the gate is held by the caller.
pub(crate) async fn stop(core: &Arc<Core>, sandbox: &Sandbox) -> anyhow::Result<()> {
    let record = sandbox.record.get();
    let mut failures = Failures::default();
    if record.phase == SandboxPhase::Ready {
        // First of all: whatever cannot be undone, and whoever dies on the way, the pod is not usable any more, and the
        // next engine goes on from here.
        let update = sandbox.record.update(|record| record.phase = SandboxPhase::Stopped).await;
        failures.note("recording the stop", update);
    }
    let containers = core.registry.containers_of(&sandbox.id);
    let ends = containers.iter().map(|container| containers::kill(core, container));
    for result in futures_util::future::join_all(ends).await {
        failures.note("stopping a container", result);
    }
    failures.note("stopping the pod's init", pod_init::stop(core, &record).await);
    if record.has_link() {
        failures.note("releasing the network", core.network.teardown(&sandbox.id).await);
    }
    let (shared, id) = (core.clone(), sandbox.id.clone());
    failures.note("namespaces", blocking(move || pod_namespaces::unpin(&shared.paths, &id)).await);
    if record.phase == SandboxPhase::Ready {
        events::tell(core, &sandbox.id, &sandbox.id, ContainerEventType::ContainerStoppedEvent);
    }
    failures.into_result()
}

/// Stops, and removes every trace. What could not be removed keeps its record, so that it can be tried again.
pub(crate) async fn remove(core: &Arc<Core>, sandbox: &Sandbox) -> anyhow::Result<()> {
    let record = sandbox.record.get();
    let mut failures = Failures::default();
    let containers = core.registry.containers_of(&sandbox.id);
    let removals = containers.iter().map(|container| containers::remove(core, container));
    for result in futures_util::future::join_all(removals).await {
        failures.note("removing a container", result);
    }
    failures.note("stopping the sandbox", stop(core, sandbox).await);
    let shared = core.clone();
    let (monitor, files, containers) = tokio::join!(
        core.monitors.remove(&sandbox.id),
        blocking(move || remove_files(&shared, &record)),
        leftovers::clear(core, sandbox),
    );
    failures.note("ending the pod's monitor", monitor);
    failures.note("removing the pod's files", files);
    failures.note("removing its containers", containers);
    // What is left keeps its place, and its record.
    failures.into_result()?;
    let (shared, id) = (core.clone(), sandbox.id.clone());
    blocking(move || {
        remove_pod_directory(&shared, &id).context("pod directory")?;
        shared.registry.sandbox_records.remove(&id)
    })
    .await?;
    core.registry.remove_sandbox(&sandbox.id);
    events::tell(core, &sandbox.id, &sandbox.id, ContainerEventType::ContainerDeletedEvent);
    Ok(())
}

fn remove_files(core: &Core, record: &SandboxRecord) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    failures.note("pod files", pod_files::remove(&core.paths, &record.id));
    if record.owns_cgroup_parent {
        failures.note("pod cgroup", core.hierarchies.remove(&record.cgroup_parent));
        // Not while another pod may be making its group in there.
        if core.registry.all_sandboxes().len() <= 1 {
            core.hierarchies.remove_if_empty(cgroups::default_parent());
        }
    }
    failures.into_result()
}

/// By then it must be empty: nothing is removed recursively where something could still be mounted.
fn remove_pod_directory(core: &Core, id: &str) -> std::io::Result<()> {
    match std::fs::remove_dir(core.paths.pod(id)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
