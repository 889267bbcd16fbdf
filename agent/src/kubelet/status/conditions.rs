//! The conditions of a pod, in the kubelet's order, with the time of each last change carried over.

use super::{Inputs, Phase};
use crate::kubelet::admission::PREEMPTED;
use crate::kubelet::plan::{self, RESIZE_PENDING};
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::pressure::NODE_IS_SHORT;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What a condition says: `None` is True, otherwise reason and message of False.
type Obstacle = Option<(&'static str, String)>;

const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
/// Conditions of ours that are there only while they hold.
pub const PASSING: [&str; 2] = [RESIZE_PENDING, RESIZE_IN_PROGRESS];

pub(super) fn conditions(inputs: Inputs<'_>, phase: Phase, status: &PodStatus) -> Vec<PodCondition> {
    let containers = containers_ready(inputs, phase, status);
    let ready = containers.clone().or_else(|| gates(inputs));
    let sandbox = inputs.observed.ready_sandbox().is_some();
    let mut list = vec![
        condition(
            inputs,
            "PodReadyToStartContainers",
            if sandbox { None } else { Some(("", String::new())) },
        ),
        initialized_condition(inputs, phase, status),
        condition(inputs, "Ready", ready),
        condition(inputs, "ContainersReady", containers),
        condition(inputs, "PodScheduled", None),
    ];
    list.extend(disruption(inputs));
    list.extend(resize_pending(inputs));
    list.extend(resize_in_progress(inputs));
    // What others have put there is theirs.
    let foreign = inputs.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ours: Vec<String> = list.iter().map(|condition| condition.type_.clone()).collect();
    let foreign = foreign.into_iter().flatten().filter(|other| !ours.contains(&other.type_));
    list.extend(foreign.filter(|other| !PASSING.contains(&other.type_.as_str())).cloned());
    list
}

/// Requests were changed to more than the node has, now or at all.
fn resize_pending(inputs: Inputs<'_>) -> Option<PodCondition> {
    let why = inputs.memory.resize_pending.clone().filter(|_| inputs.ending.is_none())?;
    let mut pending = condition(inputs, RESIZE_PENDING, None);
    (pending.reason, pending.message) = (Some(why.reason.to_string()), Some(why.message));
    Some(pending)
}

/// The node granted a resize that the runtime does not carry out.
fn resize_in_progress(inputs: Inputs<'_>) -> Option<PodCondition> {
    let refused = inputs.observed.living().find_map(|running| {
        let (_, container) = pod::find_container(inputs.pod, &running.name)?;
        let refused = inputs.memory.refused.get(&running.id)?;
        let wanted = plan::wanted(inputs.pod, &container);
        let lacks =
            running.granted.is_some_and(|has| has.differs_in_cpu(wanted) || has.differs_in_memory(wanted));
        (lacks && refused.wanted == wanted).then_some(refused)
    });
    let message = refused.map(|refused| refused.message.clone()).filter(|_| inputs.ending.is_none())?;
    let mut progress = condition(inputs, RESIZE_IN_PROGRESS, None);
    (progress.reason, progress.message) = (Some("Error".to_string()), Some(message));
    Some(progress)
}

/// The node has ended the pod for its own sake, not the pod's.
fn disruption(inputs: Inputs<'_>) -> Option<PodCondition> {
    let (reason, message) = inputs.ending?.failure.as_ref()?;
    // Who wrote more than the pod may is to blame, not the node.
    let by_node = message == PREEMPTED || reason == "Terminated" || message.starts_with(NODE_IS_SHORT);
    let mut target = condition(inputs, "DisruptionTarget", None);
    let preempted = "Pod was preempted by Kubelet to accommodate a critical pod.";
    let message = if message == PREEMPTED { preempted } else { message };
    (target.reason, target.message) = (Some("TerminationByKubelet".to_string()), Some(message.to_string()));
    by_node.then_some(target)
}

fn condition(inputs: Inputs<'_>, kind: &str, obstacle: Obstacle) -> PodCondition {
    let status = if obstacle.is_none() { "True" } else { "False" };
    let present =
        [&inputs.previous.conditions, &inputs.pod.status.as_ref().and_then(|s| s.conditions.clone())]
            .into_iter()
            .flatten()
            .flatten()
            .find(|previous| previous.type_ == kind)
            .cloned();
    let since = present.as_ref().filter(|previous| previous.status == status);
    let since = since.and_then(|previous| previous.last_transition_time.clone());
    let (reason, message) = obstacle.unwrap_or_default();
    PodCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        last_transition_time: Some(since.unwrap_or(Time(inputs.now))),
        observed_generation: inputs.pod.metadata.generation,
        ..Default::default()
    }
}

/// `PodCompleted` or `PodFailed` for a pod that has ended.
fn ended(phase: Phase) -> Obstacle {
    match phase {
        Phase::Succeeded => Some(("PodCompleted", String::new())),
        Phase::Failed => Some(("PodFailed", String::new())),
        _ => None,
    }
}

fn containers_ready(inputs: Inputs<'_>, phase: Phase, status: &PodStatus) -> Obstacle {
    if let Some(obstacle) = ended(phase) {
        return Some(obstacle);
    }
    let sidecars: Vec<&str> = pod::init_containers(inputs.pod)
        .filter(|(kind, _)| *kind == Kind::Sidecar)
        .map(|(_, container)| container.name.as_str())
        .collect();
    let counted =
        status.init_container_statuses.iter().flatten().filter(|s| sidecars.contains(&s.name.as_str()));
    let unready =
        names(counted.chain(status.container_statuses.iter().flatten()).filter(|status| !status.ready));
    (!unready.is_empty()).then(|| not_ready("unready", &unready))
}

fn not_ready(word: &str, names: &[&str]) -> (&'static str, String) {
    ("ContainersNotReady", format!("containers with {word} status: [{}]", names.join(" ")))
}

fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> Vec<&'a str> {
    statuses.map(|status| status.name.as_str()).collect()
}

fn gates(inputs: Inputs<'_>) -> Obstacle {
    let present = inputs.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |gate: &str| present.into_iter().flatten().any(|c| c.type_ == gate && c.status == "True");
    let known = |gate: &str| present.into_iter().flatten().any(|c| c.type_ == gate);
    let gates =
        pod::spec(inputs.pod).readiness_gates.iter().flatten().map(|gate| gate.condition_type.as_str());
    let messages: Vec<String> = gates
        .filter(|gate| !holds(gate))
        .map(|gate| match known(gate) {
            true => format!("the status of pod readiness gate \"{gate}\" is not \"True\", but False"),
            false => format!("corresponding condition of pod readiness gate \"{gate}\" does not exist."),
        })
        .collect();
    (!messages.is_empty()).then(|| ("ReadinessGatesNotReady", messages.join(", ")))
}

/// True with a reason when the pod has succeeded.
fn initialized_condition(inputs: Inputs<'_>, phase: Phase, status: &PodStatus) -> PodCondition {
    let mut initialized = condition(inputs, "Initialized", initialized(inputs, phase, status));
    if phase == Phase::Succeeded {
        initialized.reason = Some("PodCompleted".to_string());
    }
    initialized
}

fn initialized(inputs: Inputs<'_>, phase: Phase, status: &PodStatus) -> Obstacle {
    if phase == Phase::Succeeded {
        return None;
    }
    let begun = status.container_statuses.iter().flatten().any(|status| status.container_id.is_some());
    let pending = pod::init_containers(inputs.pod).zip(status.init_container_statuses.iter().flatten());
    let pending = pending.filter(|((kind, _), status)| match kind {
        Kind::Sidecar => !begun && status.started != Some(true),
        _ => !begun && !status.ready,
    });
    let names = names(pending.map(|(_, status)| status));
    (!names.is_empty()).then(|| {
        ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names.join(" ")))
    })
}
