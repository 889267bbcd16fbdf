//! What is told of a container that the node has ended only to start its successor: for a moment, nothing. A kubelet does
//! both in one step and looks at the pod after it, so a pod whose image was changed stays in its services. Whoever is told
//! of the end at once sees a pod that is not ready for as long as a start takes.

use super::{Inputs, container};
use crate::kubelet::backoff::plus;
use crate::kubelet::observed::{ObservedContainer, ObservedPod};
use crate::kubelet::plan::Memory;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use std::time::Duration;

/// As long as a kubelet takes to look again.
const MOMENT: Duration = Duration::from_secs(1);

/// The status as it was before the end, unless there is more to tell than that.
pub(super) fn unchanged(
    inputs: Inputs<'_>,
    container: &Container,
    latest: &ObservedContainer,
) -> Option<ContainerStatus> {
    let in_time = told_at(inputs.memory, latest).is_some_and(|at| inputs.now < at);
    if !in_time || inputs.ending.is_some() || inputs.waiting.contains_key(&container.name) {
        return None;
    }
    let own = Some(container::container_id(inputs, latest));
    container::previous(inputs, container).filter(|before| before.container_id == own).cloned()
}

/// When the first end that is not told yet will be.
pub fn next_told(observed: &ObservedPod, memory: &Memory, now: Timestamp) -> Option<Timestamp> {
    observed.containers.iter().filter_map(|container| told_at(memory, container)).filter(|at| *at > now).min()
}

fn told_at(memory: &Memory, container: &ObservedContainer) -> Option<Timestamp> {
    let finished = container.finished_at.filter(|_| container.is_dead())?;
    memory.replaced.contains_key(&container.id).then(|| plus(finished, MOMENT))
}
