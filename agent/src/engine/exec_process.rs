//! A further process in a running container: the container's own process with another command.

use super::core::Core;
use super::monitors::{ExecProcess, ExecSession};
use super::registry::Container;
use anyhow::{Context, anyhow};
use knarr_cri::Status;
use knarr_cri::v1::ContainerState;
use knarr_runtime::spec::{Process, Spec};
use std::sync::Arc;
use std::time::Duration;

/// Joining namespaces and cgroups takes milliseconds; a runtime that needs this long hangs.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The container, if it runs.
pub(crate) fn running(core: &Core, id: &str) -> Result<Arc<Container>, Status> {
    let container = core.registry.container(id)?;
    match container.record.with(|record| record.state()) {
        ContainerState::ContainerRunning => Ok(container),
        state => Err(Status::failed_precondition(format!("container is in {} state", state.as_str_name()))),
    }
}

/// Starts `cmd`; the session's process tree dies with the session or at the timeout.
pub(crate) async fn start(
    core: &Core,
    container_id: &str,
    cmd: Vec<String>,
    tty: bool,
    stdin: bool,
    timeout: Option<Duration>,
) -> anyhow::Result<ExecSession> {
    let container = running(core, container_id)?;
    let process = with_command(own(core, &container.id).await?, cmd, tty);
    launch(core, &container, &process, stdin, timeout).await
}

/// The container's own process, from its bundle.
pub(crate) async fn own(core: &Core, id: &str) -> anyhow::Result<Process> {
    let path = core.paths.bundle(id).join("config.json");
    let json = tokio::fs::read(&path).await.with_context(|| format!("reading {}", path.display()))?;
    knarr_runtime::spec::parse::<Spec>(&json)?
        .process
        .ok_or_else(|| anyhow!("the container's config.json has no process"))
}

/// Runs a process of this description in the container.
pub(crate) async fn launch(
    core: &Core,
    container: &Container,
    process: &Process,
    stdin: bool,
    timeout: Option<Duration>,
) -> anyhow::Result<ExecSession> {
    let request = request(core, container, process, stdin, timeout)?;
    in_time(core.monitors.exec(&container.sandbox_id, request)).await
}

/// The same, and leaves it to itself: it has no stdio but a terminal whose output nobody reads, where it asks for one.
pub(crate) async fn launch_detached(
    core: &Core,
    container: &Container,
    process: &Process,
) -> anyhow::Result<()> {
    let request = request(core, container, process, false, None)?;
    in_time(core.monitors.exec_detached(&container.sandbox_id, request)).await
}

fn request(
    core: &Core,
    container: &Container,
    process: &Process,
    stdin: bool,
    timeout: Option<Duration>,
) -> anyhow::Result<ExecProcess> {
    Ok(ExecProcess {
        container_id: container.id.clone(),
        runtime: core.runtime_of(&container.sandbox_id)?.argv(),
        process_json: serde_json::to_string(process)?,
        tty: process.terminal,
        stdin,
        timeout,
    })
}

async fn in_time<T>(started: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(START_DEADLINE, started)
        .await
        .map_err(|_| super::failures::DeadlineExceeded("runtime exec".into()))?
        .context("failed to exec in container: failed to start exec")
}

/// The same with another command.
pub(crate) fn with_command(mut process: Process, cmd: Vec<String>, tty: bool) -> Process {
    if tty && !process.env.iter().any(|variable| variable.starts_with("TERM=")) {
        process.env.push("TERM=xterm".into());
    }
    Process { args: cmd, terminal: tty, console_size: None, ..process }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_changes_and_the_rest_stays() {
        let own = Process {
            args: vec!["a".into()],
            env: vec!["X=1".into()],
            cwd: "/w".into(),
            no_new_privileges: true,
            ..Process::default()
        };
        let made = with_command(own, vec!["sh".into()], true);
        assert_eq!(
            (made.args, made.env),
            (vec!["sh".to_owned()], vec!["X=1".to_owned(), "TERM=xterm".to_owned()])
        );
        assert!(made.terminal && made.no_new_privileges);
        assert_eq!(made.cwd, "/w");
    }
}
