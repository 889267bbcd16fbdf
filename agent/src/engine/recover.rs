//! After a start: what an earlier engine left is observed, a pure plan says what to do about it, and that is done.
//!
//! Pods whose monitors and processes live go on as they are, with the same ids and pids. After a reboot nothing lives:
//! sandboxes become NOTREADY, containers EXITED, addresses are given back. What was half made is removed.

use super::core::{Core, now};
use super::lifecycle::leftovers::{self, Leftover};
use super::lifecycle::{containers, exits, sandboxes};
use super::records::{ContainerRecord, ExitRecord, SandboxPhase, SandboxRecord};
use super::registry::{Container, Sandbox};
use super::{blocking::blocking, bundle, checkpoint, pod_init};
use anyhow::Context;
use knarr_cri::v1::ContainerState;
use knarr_runtime::state::Status as RuntimeStatus;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What to do about a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SandboxAction {
    /// Find its monitor again (or give it a new one).
    Adopt,
    /// It was never completed, or its removal was cut short: remove it.
    Remove,
    /// Nothing of it runs, but something may be left: its address where it lived before a reboot, anything where its stop
    /// was cut short.
    Stop,
}

/// A directory goes with its pod, right before the record, or by a reboot.
fn plan_sandbox(record: &SandboxRecord, boot_id: &str, has_directory: bool) -> SandboxAction {
    match (record.phase, record.boot_id == boot_id) {
        (SandboxPhase::Starting, _) => SandboxAction::Remove,
        (SandboxPhase::Stopped, true) if !has_directory => SandboxAction::Remove,
        (SandboxPhase::Ready, true) => SandboxAction::Adopt,
        (SandboxPhase::Ready, false) | (SandboxPhase::Stopped, _) => SandboxAction::Stop,
    }
}

/// What to do about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContainerAction {
    /// Wait for its end.
    Watch,
    /// It was made and told to run, but `start` was never called: call it.
    Start,
    /// A start may have been under way: clear away what it made, so that it can be started again.
    Reset,
    /// Its removal was cut short: go on with it.
    Remove,
    /// It ended, with a code that nobody will ever know.
    Lost,
    /// Nothing.
    Leave,
}

/// A container that was told to be created is cleared away even where the runtime knows nothing of it: the monitor may
/// be making it just now. A bundle goes with its container, right before the record, or by a reboot.
fn plan_container(
    record: &ContainerRecord,
    boot_id: &str,
    has_bundle: bool,
    runtime: Option<RuntimeStatus>,
) -> ContainerAction {
    match (record.state(), record.boot_id == boot_id) {
        (state, true) if !has_bundle && state != ContainerState::ContainerRunning => ContainerAction::Remove,
        (ContainerState::ContainerExited | ContainerState::ContainerUnknown, _) => ContainerAction::Leave,
        (_, false) => ContainerAction::Lost,
        (ContainerState::ContainerCreated, true) => ContainerAction::Reset,
        (ContainerState::ContainerRunning, true) => match runtime {
            Some(RuntimeStatus::Created) => ContainerAction::Start,
            // The monitor knows the exit even where the runtime has forgotten the container.
            _ => ContainerAction::Watch,
        },
    }
}

/// The code of a container that a reboot ended.
const LOST: i32 = 255;

/// Brings the registry back. Errors of single pods are logged; they stay visible and can be removed.
pub(crate) async fn recover(core: &Arc<Core>) -> anyhow::Result<()> {
    let shared = core.clone();
    let (pods, processes) = blocking(move || {
        Ok((shared.registry.sandbox_records.load()?, shared.registry.container_records.load()?))
    })
    .await?;
    for record in pods.records {
        drop(core.registry.reserve(&record.name_key(), &record.id));
        core.registry.insert_sandbox(record);
    }
    let orphans = processes.records.into_iter().filter_map(|record| register(core, record)).collect();
    let recovered = core.registry.all_sandboxes().into_iter().map(|sandbox| recover_pod(core, sandbox));
    futures_util::future::join_all(recovered).await;
    recover_network(core).await;
    remove_orphans(core, orphans).await;
    core.registry.all_sandboxes().into_iter().for_each(|sandbox| leftovers::clear_later(core, sandbox));
    checkpoint::recover(core).await;
    for (id, error) in processes.unreadable {
        tracing::error!("container {id}: its record is lost: {error:#}");
        report(&id, discard_container(core, &id).await);
    }
    for (id, error) in pods.unreadable {
        tracing::error!("sandbox {id}: its record is lost: {error:#}");
        report(&id, discard_sandbox(core, &id).await);
    }
    let shared = core.clone();
    report("layers", blocking(move || Ok(shared.images.unmount_unused_layers()?)).await);
    Ok(())
}

/// Makes a container known, or what is left of one that was removed; answers its id where its pod is gone.
fn register(core: &Core, record: ContainerRecord) -> Option<String> {
    if !record.removed {
        let name = super::records::container_name_key(&record.sandbox_id, &record.config);
        drop(core.registry.reserve(&name, &record.id));
        core.registry.insert_container(record);
        return None;
    }
    match core.registry.find_sandbox(&record.sandbox_id) {
        Ok(Some(sandbox)) => {
            sandbox.leftovers.add(Leftover::of(&record));
            None
        }
        _ => Some(record.id),
    }
}

async fn recover_pod(core: &Arc<Core>, sandbox: Arc<Sandbox>) {
    let record = sandbox.record.get();
    let _gate = sandbox.gate.write().await;
    let has_directory = exists(core.paths.pod(&sandbox.id)).await;
    let action = plan_sandbox(&record, &core.host.boot_id, has_directory);
    if action == SandboxAction::Adopt {
        report(&sandbox.id, core.monitors.ensure(&sandbox.id).await.context("finding its monitor"));
        pod_init::watch(core, &sandbox);
    }
    for container in core.registry.containers_of(&sandbox.id) {
        report(&container.id, recover_container(core, &container).await);
    }
    report(
        &sandbox.id,
        match action {
            SandboxAction::Remove => remove_unfinished(core, &sandbox).await,
            SandboxAction::Stop => sandboxes::stop(core, &sandbox).await,
            SandboxAction::Adopt => Ok(()),
        },
    );
}

/// What cannot be removed now becomes visible, stopped, so that somebody can remove it later.
async fn remove_unfinished(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> anyhow::Result<()> {
    let Err(left) = sandboxes::remove(core, sandbox).await else { return Ok(()) };
    core.registry.release(&sandbox.id);
    sandbox.record.update(|record| record.phase = SandboxPhase::Stopped).await?;
    Err(left)
}

/// Addresses that no living pod has are given back, and links or rules that somebody removed come again.
async fn recover_network(core: &Core) {
    let all = core.registry.all_sandboxes();
    let living = |sandbox: &&Arc<Sandbox>| sandbox.record.with(|record| record.phase == SandboxPhase::Ready);
    let living = all.iter().filter(living).map(|sandbox| sandbox.id.clone()).collect();
    report("the network", core.network.collect_garbage(&living).await);
}

async fn recover_container(core: &Arc<Core>, container: &Arc<Container>) -> anyhow::Result<()> {
    let record = container.record.get();
    let alive = record.exit.is_none() && record.boot_id == core.host.boot_id;
    let seen = if alive { core.runtime_of(&record.sandbox_id)?.state(&record.id).await? } else { None };
    let has_bundle = exists(core.paths.bundle(&record.id)).await;
    match plan_container(&record, &core.host.boot_id, has_bundle, seen.map(|state| state.status)) {
        ContainerAction::Leave => Ok(()),
        ContainerAction::Remove => {
            let sandbox = core.registry.sandbox(&record.sandbox_id)?;
            containers::remove(core, container).await?;
            leftovers::clear(core, &sandbox).await
        }
        ContainerAction::Watch => {
            // An end that the monitor has seen already is known from the start.
            match core.monitors.exit_of(&container.sandbox_id, &container.id).await {
                Ok(Some(exit)) => exits::record(core, container, ExitRecord::observed(&exit)).await,
                Ok(None) | Err(_) => exits::watch(core, container),
            }
            Ok(())
        }
        ContainerAction::Start => {
            core.runtime_of(&record.sandbox_id)?.start(&record.id).await?;
            exits::watch(core, container);
            Ok(())
        }
        ContainerAction::Reset => containers::discard(core, container).await,
        ContainerAction::Lost => {
            let exit = ExitRecord::unseen(LOST, now());
            container.record.update(move |record| record.exit = Some(exit)).await
        }
    }
}

/// Containers whose pod is gone (its record was lost, or its removal was cut short) belong to nobody, and neither do
/// bundles without a record (their creation was cut short), nor `removed` ones of pods that are gone.
async fn remove_orphans(core: &Arc<Core>, removed: Vec<String>) {
    let containers = core.registry.containers();
    let mut known: BTreeSet<String> = containers.iter().map(|container| container.id.clone()).collect();
    for sandbox in core.registry.all_sandboxes() {
        known.extend(sandbox.leftovers.ids());
    }
    let shared = core.clone();
    let bundles = blocking(move || Ok(bundles(&shared))).await.unwrap_or_default();
    for id in bundles.into_iter().filter(|id| !known.contains(id)).chain(removed) {
        report(&id, discard_container(core, &id).await);
    }
    for container in core.registry.containers() {
        if matches!(core.registry.find_sandbox(&container.sandbox_id), Ok(None)) {
            report(&container.id, discard_container(core, &container.id).await);
            core.registry.remove_container(&container.id);
        }
    }
}

fn bundles(core: &Core) -> Vec<String> {
    let entries = std::fs::read_dir(core.paths.bundles()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// All that can be found by an id alone.
async fn discard_container(core: &Arc<Core>, id: &str) -> anyhow::Result<()> {
    core.runtime_of("")?.delete(id).await?;
    let (shared, id) = (core.clone(), id.to_owned());
    blocking(move || {
        bundle::remove(&shared, &id, MOST_MOUNTS)?;
        shared.registry.container_records.remove(&id)
    })
    .await
}

/// More image volumes than any container has.
const MOST_MOUNTS: usize = 64;

async fn discard_sandbox(core: &Arc<Core>, id: &str) -> anyhow::Result<()> {
    let sandbox = core.registry.insert_sandbox(SandboxRecord {
        id: id.to_owned(),
        created_at: now(),
        boot_id: core.host.boot_id.clone(),
        phase: SandboxPhase::Stopped,
        config: Default::default(),
        runtime_handler: String::new(),
        cgroup_parent: super::cgroups::parent_of("", id),
        owns_cgroup_parent: true,
        addresses: Vec::new(),
    });
    sandboxes::remove(core, &sandbox).await
}

async fn exists(path: PathBuf) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(true)
}

fn report(id: &str, result: anyhow::Result<()>) {
    result.unwrap_or_else(|error| tracing::error!("recovering {id}: {error:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(phase: SandboxPhase) -> SandboxRecord {
        SandboxRecord {
            id: "s".into(),
            created_at: 1,
            boot_id: "now".into(),
            phase,
            config: Default::default(),
            runtime_handler: String::new(),
            cgroup_parent: String::new(),
            owns_cgroup_parent: false,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn sandboxes_are_adopted_stopped_or_removed() {
        use SandboxPhase::{Ready, Starting, Stopped};
        for (phase, boot, has_directory, action) in [
            (Ready, "now", true, SandboxAction::Adopt),
            (Ready, "later", false, SandboxAction::Stop),
            (Starting, "now", true, SandboxAction::Remove),
            (Starting, "later", false, SandboxAction::Remove),
            (Stopped, "now", true, SandboxAction::Stop),
            (Stopped, "now", false, SandboxAction::Remove),
            (Stopped, "later", false, SandboxAction::Stop),
        ] {
            assert_eq!(plan_sandbox(&sandbox(phase), boot, has_directory), action, "{phase:?} {boot}");
        }
    }

    #[test]
    fn containers_are_watched_started_reset_or_lost() {
        use RuntimeStatus::{Created, Running, Stopped};
        let record = |started_at, exited: bool| ContainerRecord {
            id: "c".into(),
            sandbox_id: "s".into(),
            boot_id: "now".into(),
            config: Default::default(),
            image_id: String::new(),
            image_ref: String::new(),
            created_at: 1,
            started_at,
            pid: None,
            exit: exited.then(|| ExitRecord::unseen(1, 1)),
            log_path: None,
            user: Default::default(),
            stop_signal: String::new(),
            mounts: Vec::new(),
            from_checkpoint: false,
            removed: false,
        };
        for (started_at, exited, boot, has_bundle, runtime, action) in [
            (5, false, "now", true, Some(Running), ContainerAction::Watch),
            (5, false, "now", true, Some(Stopped), ContainerAction::Watch),
            (5, false, "now", true, None, ContainerAction::Watch),
            (5, false, "now", true, Some(Created), ContainerAction::Start),
            (5, false, "later", false, None, ContainerAction::Lost),
            (0, false, "later", false, None, ContainerAction::Lost),
            (0, false, "now", true, Some(Created), ContainerAction::Reset),
            (0, false, "now", true, None, ContainerAction::Reset),
            (5, true, "later", false, None, ContainerAction::Leave),
            (5, true, "now", true, None, ContainerAction::Leave),
            (5, true, "now", false, None, ContainerAction::Remove),
            (0, false, "now", false, None, ContainerAction::Remove),
        ] {
            assert_eq!(
                plan_container(&record(started_at, exited), boot, has_bundle, runtime),
                action,
                "{started_at} {boot}"
            );
        }
    }
}
