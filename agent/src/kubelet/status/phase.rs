//! The one-word summary of a pod.

use super::Inputs;
use crate::kubelet::pod::{self, Kind, RestartPolicy};
use k8s_openapi::api::core::v1::ContainerStatus;

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    #[allow(missing_docs)]
    Pending,
    #[allow(missing_docs)]
    Running,
    #[allow(missing_docs)]
    Succeeded,
    #[allow(missing_docs)]
    Failed,
}

impl Phase {
    /// The API's word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }

    /// The pod will not run again.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// How many main containers are in which state.
#[derive(Default)]
struct Count {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
}

pub(super) fn phase(inputs: Inputs<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> Phase {
    // A final phase never changes back.
    match inputs.previous.phase.as_deref() {
        Some("Succeeded") => return Phase::Succeeded,
        Some("Failed") => return Phase::Failed,
        _ => {}
    }
    let policy = pod::restart_policy(inputs.pod);
    let count = count(main);
    let failed_by_node = inputs.ending.is_some_and(|ending| ending.failure.is_some());
    if failed_by_node && (inputs.stopped || count.running == 0) {
        return Phase::Failed;
    }
    if init_failed(inputs, init) && policy == RestartPolicy::Never && (inputs.stopped || count.running == 0) {
        return Phase::Failed;
    }
    if inputs.ending.is_some() && inputs.stopped {
        return if count.succeeded == main.len() { Phase::Succeeded } else { Phase::Failed };
    }
    let begun = count.running + count.stopped > 0;
    // With another sandbox a pod begins anew.
    if init_runs(inputs, init) || (!begun && init_pending(inputs, init)) {
        return Phase::Pending;
    }
    match count {
        Count { waiting: 1.., .. } => Phase::Pending,
        Count { running: 1.., .. } => Phase::Running,
        Count { stopped: 1.., succeeded, .. } => finished(policy, succeeded == main.len(), inputs),
        _ => Phase::Pending,
    }
}

fn finished(policy: RestartPolicy, all_succeeded: bool, inputs: Inputs<'_>) -> Phase {
    match policy {
        RestartPolicy::Always => Phase::Running,
        // Sidecars are still being stopped.
        _ if inputs.observed.living().next().is_some() => Phase::Running,
        _ if awaits_successor(inputs) => Phase::Running,
        _ if all_succeeded => Phase::Succeeded,
        RestartPolicy::Never => Phase::Failed,
        RestartPolicy::OnFailure => Phase::Running,
    }
}

/// Some container was ended only for the next one to start.
fn awaits_successor(inputs: Inputs<'_>) -> bool {
    let names = pod::spec(inputs.pod).containers.iter().map(|container| container.name.as_str());
    names
        .filter_map(|name| inputs.observed.latest(name))
        .any(|latest| inputs.memory.replaced.contains_key(&latest.id))
}

fn count(main: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for status in main {
        let state = status.state.as_ref();
        let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
            state.and_then(|state| state.terminated.as_ref()).map(|terminated| terminated.exit_code)
        };
        if state.is_some_and(|state| state.running.is_some()) {
            count.running += 1;
        } else if let Some(exit_code) = ended(state) {
            count.stopped += 1;
            count.succeeded += usize::from(exit_code == 0);
        } else if ended(status.last_state.as_ref()).is_some() {
            count.stopped += 1;
        } else {
            count.waiting += 1;
        }
    }
    count
}

fn each_init<'a>(
    inputs: Inputs<'a>,
    init: &'a [ContainerStatus],
) -> impl Iterator<Item = (Kind, &'a ContainerStatus)> {
    pod::init_containers(inputs.pod).map(|(kind, _)| kind).zip(init)
}

/// Every init container has done its work.
pub(super) fn is_initialized(inputs: Inputs<'_>, init: &[ContainerStatus]) -> bool {
    each_init(inputs, init).all(|(kind, status)| kind == Kind::Sidecar || status.ready)
}

fn init_failed(inputs: Inputs<'_>, init: &[ContainerStatus]) -> bool {
    each_init(inputs, init).any(|(kind, status)| {
        let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        kind == Kind::Init && terminated.is_some_and(|terminated| terminated.exit_code != 0)
    })
}

fn init_runs(inputs: Inputs<'_>, init: &[ContainerStatus]) -> bool {
    let runs = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    each_init(inputs, init).any(|(kind, status)| kind == Kind::Init && runs(status))
}

fn init_pending(inputs: Inputs<'_>, init: &[ContainerStatus]) -> bool {
    each_init(inputs, init).any(|(kind, status)| match kind {
        Kind::Sidecar => status.started != Some(true),
        _ => !status.ready,
    })
}
