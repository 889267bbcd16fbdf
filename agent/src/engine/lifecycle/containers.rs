//! Containers: started by the runtime through the monitor, ended by force if need be, and removed with everything
//! they had.

use super::{exits, gates, leftovers::Leftover};
use crate::engine::core::{Core, now};
use crate::engine::failures::{DeadlineExceeded, Failures};
use crate::engine::monitors::{CreateContainer, Restore};
use crate::engine::records::ExitRecord;
use crate::engine::registry::Container;
use crate::engine::{blocking::blocking, checkpoint, events};
use anyhow::{Context, anyhow};
use knarr_cri::v1::ContainerEventType;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// `runtime create` mounts, sets limits and runs hooks; far longer than any of it takes.
const CREATE_DEADLINE: Duration = Duration::from_secs(120);
/// How long the kernel may take to end killed processes (they may hang in uninterruptible IO).
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// After this a killed container's whole cgroup is killed too.
const KILL_AGAIN: Duration = Duration::from_secs(2);

/// Makes the process and lets it run. Its gate is held by the caller.
///
/// A start that fails leaves an exited container (code 128, reason `StartError`), as containerd does: the kubelet
/// shows its message and starts another one.
pub(crate) async fn start(core: &Arc<Core>, container: &Arc<Container>) -> anyhow::Result<()> {
    container.cleared.store(false, Ordering::Relaxed);
    let started = tokio::select! {
        started = create_and_start(core, container) => started,
        () = container.ending.cancelled() => Err(anyhow!("it was told to end while it was being started")),
    };
    match started {
        Ok(()) => {
            events::tell(
                core,
                &container.id,
                &container.sandbox_id,
                ContainerEventType::ContainerStartedEvent,
            );
            exits::watch(core, container);
            Ok(())
        }
        Err(error) => {
            let undone = discard(core, container).await;
            let exit = ExitRecord::start_error(format!("{error:#}"), now());
            let recorded = container.record.update(move |record| record.exit = Some(exit)).await;
            events::tell(
                core,
                &container.id,
                &container.sandbox_id,
                ContainerEventType::ContainerStoppedEvent,
            );
            for result in [undone, recorded] {
                result.unwrap_or_else(|left| {
                    tracing::warn!("container {}: after a failed start: {left:#}", container.id)
                });
            }
            Err(error)
        }
    }
}

async fn create_and_start(core: &Arc<Core>, container: &Arc<Container>) -> anyhow::Result<()> {
    let record = container.record.get();
    let runtime = core.runtime_of(&container.sandbox_id)?;
    let create = CreateContainer {
        id: container.id.clone(),
        runtime: runtime.argv(),
        bundle: core.paths.bundle(&container.id),
        log_path: record.log_path.clone(),
        tty: record.config.tty,
        stdin: record.config.stdin,
        stdin_once: record.config.stdin_once,
        on_exit: core.config.engine.on_exit.clone(),
        started: false,
        restore: record.from_checkpoint.then(|| restore(core, &container.id)),
    };
    let verb = if record.from_checkpoint { "restore" } else { "create" };
    let created = create_process(core, &container.sandbox_id, create).await;
    let pid = created.with_context(|| format!("failed to create container: OCI runtime {verb} failed"))?;
    // Written before the process can run, so that the next engine looks for it.
    let started_at = now();
    container.record.update(move |record| (record.pid, record.started_at) = (Some(pid), started_at)).await?;
    if record.from_checkpoint {
        // It runs already, and needs nothing of the checkpoint any more.
        let (shared, id) = (core.clone(), container.id.clone());
        container.record.update(|record| record.from_checkpoint = false).await?;
        return blocking(move || Ok(checkpoint::forget(&shared, &id)?)).await;
    }
    runtime.start(&container.id).await.context("failed to start container: OCI runtime start failed")
}

fn restore(core: &Core, id: &str) -> Restore {
    let work = core.paths.checkpoint(id);
    Restore { images: work.join(checkpoint::IMAGES), work }
}

/// Has the monitor run `runtime create`; one that hangs is killed when its time is over.
pub(crate) async fn create_process(
    core: &Core,
    sandbox_id: &str,
    create: CreateContainer,
) -> anyhow::Result<i32> {
    let id = create.id.clone();
    // Nobody has watched the monitor of a pod in which nothing runs.
    core.monitors.ensure(sandbox_id).await?;
    match tokio::time::timeout(CREATE_DEADLINE, core.monitors.create_container(sandbox_id, create)).await {
        Ok(created) => created,
        Err(_) => {
            core.monitors.forget(sandbox_id, &id).await?;
            Err(DeadlineExceeded(format!("runtime create did not end within {CREATE_DEADLINE:?}")).into())
        }
    }
}

/// Removes what monitor and runtime hold of a container. The monitor may still be making it: it forgets first, which
/// ends that, so that what is deleted stays deleted.
pub(crate) async fn discard(core: &Arc<Core>, container: &Container) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    failures.note("monitor", core.monitors.forget(&container.sandbox_id, &container.id).await);
    failures.note("runtime delete", core.runtime_of(&container.sandbox_id)?.delete(&container.id).await);
    failures.into_result()
}

/// Ends a running container with SIGKILL and waits until its exit is recorded. One that does not run is fine.
pub(crate) async fn kill(core: &Arc<Core>, container: &Container) -> anyhow::Result<()> {
    if !container.record.with(|record| record.is_running()) {
        return Ok(());
    }
    let sent = core.runtime_of(&container.sandbox_id)?.kill(&container.id, "KILL").await;
    if sent.is_ok() && tokio::time::timeout(KILL_AGAIN, container.ended()).await.is_ok() {
        return Ok(());
    }
    if let Some(group) = core.cgroup_of(&container.sandbox_id, &container.id) {
        let shared = core.clone();
        blocking(move || {
            shared.hierarchies.kill(&group);
            Ok(())
        })
        .await?;
    }
    match tokio::time::timeout(KILL_DEADLINE, container.ended()).await {
        Ok(()) => Ok(()),
        Err(_) => {
            let late = DeadlineExceeded(format!("container {} does not end after SIGKILL", container.id));
            Err(anyhow::Error::from(late)
                .context(sent.err().map(|error| format!("{error:#}")).unwrap_or_default()))
        }
    }
}

/// Ends and removes a container. What is left of it is cleared away by `leftovers`. Idempotent.
pub(crate) async fn remove(core: &Arc<Core>, container: &Arc<Container>) -> anyhow::Result<()> {
    kill(core, container).await?;
    let _gate = gates::of_container(container).await;
    if core.registry.find_container(&container.id)?.is_none() {
        // Somebody else was faster.
        return Ok(());
    }
    if container.cleared.load(Ordering::Relaxed) {
        core.monitors.forget(&container.sandbox_id, &container.id).await.context("monitor")?;
    } else {
        discard(core, container).await.context("discarding")?;
    }
    container.record.update(|record| record.removed = true).await?;
    // Known to its pod before it is unknown as a container: at no time does a removal of the pod miss it.
    if let Some(sandbox) = core.registry.find_sandbox(&container.sandbox_id)? {
        sandbox.leftovers.add(container.record.with(Leftover::of));
    }
    core.registry.remove_container(&container.id);
    events::tell(core, &container.id, &container.sandbox_id, ContainerEventType::ContainerDeletedEvent);
    Ok(())
}
