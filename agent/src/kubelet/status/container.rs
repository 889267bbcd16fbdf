//! The status of one container.

use super::{Inputs, replacement};
use crate::kubelet::observed::{ObservedContainer, RunState, User};
use crate::kubelet::plan;
use crate::kubelet::pod::{self, Kind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Exit code of a container whose real one nobody saw.
const UNKNOWN_EXIT_CODE: i32 = 137;

pub(super) fn status(inputs: Inputs<'_>, kind: Kind, container: &Container) -> ContainerStatus {
    let latest = shown(inputs, &container.name);
    if let Some(unchanged) = latest.and_then(|latest| replacement::unchanged(inputs, container, latest)) {
        return unchanged;
    }
    if latest.is_none()
        && inputs.ending.is_some()
        && let Some(before) = previous(inputs, container).filter(|status| status.container_id.is_some())
    {
        return removed(before);
    }
    let (state, last_state) = states(inputs, kind, container, latest);
    let running = state.running.is_some();
    let health = latest.and_then(|latest| inputs.memory.health.get(&latest.id));
    let started = running && health.map_or(container.startup_probe.is_none(), |health| health.started);
    let ready = match kind {
        Kind::Init => state.terminated.as_ref().is_some_and(|terminated| terminated.exit_code == 0),
        Kind::Ephemeral => false,
        _ => started && health.map_or(container.readiness_probe.is_none(), |health| health.ready),
    };
    let before = previous(inputs, container);
    ContainerStatus {
        name: container.name.clone(),
        ready,
        started: (kind != Kind::Ephemeral).then_some(started),
        restart_count: latest.map_or_else(
            || before.map_or(0, |status| status.restart_count),
            |latest| i32::try_from(latest.restart_count).unwrap_or(i32::MAX),
        ),
        image: latest.map(|latest| &latest.image).or(container.image.as_ref()).cloned().unwrap_or_default(),
        image_id: latest.map(|latest| latest.image_id.clone()).unwrap_or_default(),
        container_id: latest.map(|latest| container_id(inputs, latest)),
        resources: resources(inputs, container, latest),
        allocated_resources: container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.clone())
            .filter(|_| kind != Kind::Ephemeral && latest.is_some()),
        volume_mounts: Some(volume_mounts(container)).filter(|mounts| !mounts.is_empty()),
        user: latest.and_then(|latest| latest.user.as_ref()).map(user),
        stop_signal: latest.and_then(|_| container.lifecycle.as_ref()?.stop_signal.clone()),
        state: Some(state),
        last_state,
        ..Default::default()
    }
}

/// The container that the status tells of: one that has not begun is not there yet while there is an earlier one.
fn shown<'a>(inputs: Inputs<'a>, name: &str) -> Option<&'a ObservedContainer> {
    let mut of_name = inputs.observed.containers.iter().filter(|container| container.name == name);
    let begun = of_name.find(|container| container.state != RunState::Created);
    begun.or_else(|| inputs.observed.latest(name))
}

/// The status of a container that is gone with its pod: how it ended, as far as anybody knows.
fn removed(before: &ContainerStatus) -> ContainerStatus {
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let is_waiting = before.state.as_ref().is_some_and(|state| state.waiting.is_some());
    let terminated = ended(&before.state).or_else(|| ended(&before.last_state).filter(|_| is_waiting));
    let terminated = terminated.unwrap_or_else(|| ContainerStateTerminated {
        exit_code: UNKNOWN_EXIT_CODE,
        reason: Some("ContainerStatusUnknown".to_string()),
        message: Some("The container could not be located when the pod was terminated".to_string()),
        container_id: before.container_id.clone(),
        ..Default::default()
    });
    ContainerStatus {
        ready: before.ready && ended(&before.state).is_some(),
        started: before.started.map(|_| false),
        state: Some(ContainerState { terminated: Some(terminated), ..Default::default() }),
        ..before.clone()
    }
}

/// A container that is not there when its pod has ended has failed, whether it ever began or not.
pub(super) fn end(status: &mut ContainerStatus) {
    if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
        *status = removed(status);
    }
}

fn user(user: &User) -> ContainerUser {
    let linux = LinuxContainerUser {
        uid: user.uid,
        gid: user.gid,
        supplemental_groups: Some(user.groups.clone()).filter(|groups| !groups.is_empty()),
    };
    ContainerUser { linux: Some(linux) }
}

/// What the container has now: what it asks for, unless that has not been granted yet.
fn resources(
    inputs: Inputs<'_>,
    container: &Container,
    latest: Option<&ObservedContainer>,
) -> Option<ResourceRequirements> {
    let granted = latest?.granted?;
    let wanted = plan::wanted(inputs.pod, container);
    if granted.differs_in_cpu(wanted) || granted.differs_in_memory(wanted) {
        return previous(inputs, container).and_then(|status| status.resources.clone());
    }
    Some(container.resources.clone().unwrap_or_default())
}

fn volume_mounts(container: &Container) -> Vec<VolumeMountStatus> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| {
            let read_only = mount.read_only == Some(true);
            let recursive = match mount.recursive_read_only.as_deref() {
                Some("Enabled" | "IfPossible") => "Enabled",
                _ => "Disabled",
            };
            VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: read_only.then_some(true),
                recursive_read_only: read_only.then(|| recursive.to_string()),
            }
        })
        .collect()
}

pub(super) fn previous<'a>(inputs: Inputs<'a>, container: &Container) -> Option<&'a ContainerStatus> {
    let previous = inputs.previous;
    let lists = [
        &previous.container_statuses,
        &previous.init_container_statuses,
        &previous.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().find(|status| status.name == container.name)
}

pub(super) fn container_id(inputs: Inputs<'_>, container: &ObservedContainer) -> String {
    format!("{}://{}", inputs.runtime_name, container.id)
}

/// The present state and the last one.
fn states(
    inputs: Inputs<'_>,
    kind: Kind,
    container: &Container,
    latest: Option<&ObservedContainer>,
) -> (ContainerState, Option<ContainerState>) {
    let ended = |dead: &ObservedContainer| terminated(inputs, dead);
    let earlier = latest.and_then(|latest| inputs.observed.previous(latest)).map(ended);
    let waits = inputs.waiting.get(&container.name).map(|reason| waiting(&reason.reason, &reason.message));
    match latest {
        None => {
            let last = previous(inputs, container).and_then(|status| status.last_state.clone());
            (waits.unwrap_or_else(|| not_begun(inputs, kind)), last)
        }
        Some(latest) => match latest.state {
            RunState::Running => (running(latest), earlier),
            RunState::Created => (waits.unwrap_or_else(|| not_begun(inputs, kind)), earlier),
            RunState::Exited | RunState::Unknown => match waits {
                Some(waits) => (waits, Some(ended(latest))),
                None => still_waiting(inputs, container, latest).unwrap_or_else(|| {
                    (ended(latest), earlier.or_else(|| kept_last_state(inputs, container, latest)))
                }),
            },
        },
    }
}

/// While its successor is being started, a container goes on to be shown as it waited.
fn still_waiting(
    inputs: Inputs<'_>,
    container: &Container,
    dead: &ObservedContainer,
) -> Option<(ContainerState, Option<ContainerState>)> {
    let before = previous(inputs, container).filter(|_| inputs.ending.is_none())?;
    let state = before.state.clone().filter(|state| state.waiting.is_some())?;
    let last = before.last_state.as_ref()?.terminated.as_ref()?;
    (last.container_id == Some(container_id(inputs, dead))).then(|| (state, before.last_state.clone()))
}

/// How the predecessor of a container ended that is not there any more.
fn kept_last_state(
    inputs: Inputs<'_>,
    container: &Container,
    latest: &ObservedContainer,
) -> Option<ContainerState> {
    let before = previous(inputs, container)?;
    let same = before.container_id == Some(container_id(inputs, latest));
    let waited = before.state.as_ref().is_some_and(|state| state.waiting.is_some());
    before.last_state.clone().filter(|_| same && !waited)
}

fn not_begun(inputs: Inputs<'_>, kind: Kind) -> ContainerState {
    let has_init = pod::init_containers(inputs.pod).next().is_some();
    let reason = if has_init && kind != Kind::Ephemeral { "PodInitializing" } else { "ContainerCreating" };
    waiting(reason, "")
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = Some(message.to_string()).filter(|message| !message.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_string()), message };
    ContainerState { waiting: Some(waiting), ..Default::default() }
}

fn running(container: &ObservedContainer) -> ContainerState {
    let running = ContainerStateRunning { started_at: container.started_at.map(Time) };
    ContainerState { running: Some(running), ..Default::default() }
}

fn terminated(inputs: Inputs<'_>, container: &ObservedContainer) -> ContainerState {
    let unknown = container.state == RunState::Unknown;
    let reason = if unknown { "ContainerStatusUnknown" } else { &container.reason };
    let message = inputs.messages.get(&container.id).unwrap_or(&container.message);
    let terminated = ContainerStateTerminated {
        exit_code: if unknown { UNKNOWN_EXIT_CODE } else { container.exit_code },
        reason: Some(reason.to_string()).filter(|reason| !reason.is_empty()),
        message: Some(message.clone()).filter(|message| !message.is_empty()),
        // What never ran began with time itself.
        started_at: Some(Time(container.started_at.unwrap_or(Timestamp::UNIX_EPOCH))),
        finished_at: container.finished_at.map(Time),
        container_id: Some(container_id(inputs, container)),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}
