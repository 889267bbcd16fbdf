//! Learning that a container has ended: from its monitor, or, where that has died, from the kernel.
//!
//! One task per running container waits. The exit is on disk first, then it is told, then the runtime's remains (its cgroup, processes
//! that outlived pid 1) are cleared away.

use crate::engine::core::{Core, now};
use crate::engine::events;
use crate::engine::monitors::{Exit, Refused};
use crate::engine::records::ExitRecord;
use crate::engine::registry::Container;
use anyhow::anyhow;
use knarr_cri::v1::ContainerEventType;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// The exit code of a process whose end nobody saw.
const UNSEEN: i32 = 137;
/// How often in a row a monitor is replaced that dies at once; then only the process itself is watched.
const ATTEMPTS: u32 = 20;
/// Before a monitor is replaced once more; doubled each time.
const PAUSE: Duration = Duration::from_millis(10);
/// A monitor that lived this long did not die of being asked.
const HEALTHY: Duration = Duration::from_secs(5);

/// Waits for the end of a running container, in a task of its own.
pub(crate) fn watch(core: &Arc<Core>, container: &Arc<Container>) {
    let (core, container) = (core.clone(), container.clone());
    let span = tracing::info_span!("exit", pod = %container.sandbox_id, container = %container.id);
    let wait = async move {
        let exit = observe(&core, &container).await;
        tracing::debug!(code = exit.code, reason = %exit.reason, "the container has ended");
        // One waits for the end of every container: what it takes then is not held until then.
        Box::pin(record(&core, &container, exit)).await;
    };
    tokio::spawn(wait.instrument(span));
}

async fn observe(core: &Core, container: &Container) -> ExitRecord {
    match from_monitor(core, &container.sandbox_id, &container.id).await {
        Ok(exit) => return ExitRecord::observed(&exit),
        Err(error) => tracing::warn!("waiting for its end: {error:#}"),
    }
    let end = Box::pin(process_end(container.record.with(|record| record.pid)));
    if let Err(error) = end.await {
        tracing::warn!("watching its process: {error:#}");
    }
    ExitRecord::unseen(UNSEEN, now())
}

/// How a container or a pod's init ended, from the pod's monitor. One that dies meanwhile is replaced, however often;
/// an error means that a living one knows nothing of it, or that none stays alive.
pub(crate) async fn from_monitor(core: &Core, sandbox_id: &str, id: &str) -> anyhow::Result<Exit> {
    let mut failed = 0;
    loop {
        let begin = Instant::now();
        let error = match core.monitors.wait(sandbox_id, id).await {
            Ok(exit) => return Ok(exit),
            Err(error) => error,
        };
        if begin.elapsed() > HEALTHY {
            failed = 0;
        }
        let pod = core.registry.find_sandbox(sandbox_id);
        if error.is::<Refused>() || failed >= ATTEMPTS || !matches!(pod, Ok(Some(_))) {
            return Err(error);
        }
        tracing::debug!("its monitor is lost: {error:#}");
        if let Err(error) = core.monitors.ensure(sandbox_id).await {
            tracing::warn!("replacing its monitor: {error:#}");
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(failed.min(7))).await;
        failed += 1;
    }
}

/// Returns when the process is gone. The thread that waits belongs to nobody, so it never holds up our own end.
pub(crate) async fn process_end(pid: Option<i32>) -> anyhow::Result<()> {
    let pid = pid.and_then(Pid::from_raw).ok_or_else(|| anyhow!("its pid is unknown"))?;
    let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        other => other?,
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("process-end".into()).spawn(move || {
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        while let Err(Errno::INTR) = rustix::event::poll(&mut watched, None) {}
        // Nobody waits any more where the engine is going away.
        let _nobody = ended.send(());
    })?;
    Ok(end.await?)
}

/// Makes an end known, and clears away what the runtime keeps.
pub(crate) async fn record(core: &Arc<Core>, container: &Arc<Container>, exit: ExitRecord) {
    let recorded = container.record.update_synced(move |record| record.exit = Some(exit)).await;
    recorded.unwrap_or_else(|error| tracing::error!("recording its exit: {error:#}"));
    events::tell(core, &container.id, &container.sandbox_id, ContainerEventType::ContainerStoppedEvent);
    let _gate = container.gate.lock().await;
    if container.record.with(|record| record.exit.is_none()) {
        // It was made startable again meanwhile, and may run: what is there is not the old one's.
        return;
    }
    let cleared = match core.runtime_of(&container.sandbox_id) {
        Ok(runtime) => runtime.delete(&container.id).await,
        Err(error) => Err(error),
    };
    match cleared {
        Ok(()) => container.cleared.store(true, Ordering::Relaxed),
        Err(error) => tracing::warn!("after its end: {error:#}"),
    }
}
