//! In-place resize: a running container whose requests or limits were changed gets them without a restart, unless its
//! `resizePolicy` asks for one. What the node could never grant is told in a condition and left alone.

use super::{Action, Plan, World};
use crate::kubelet::observed::{Granted, ObservedContainer};
use crate::kubelet::pod;
use crate::kubelet::resources::{self, Amounts};
use k8s_openapi::api::core::v1::{Container, Pod};

/// Plans the resize of one running container; true when it must be restarted for it.
pub(super) fn resize(
    world: World<'_>,
    container: &Container,
    running: &ObservedContainer,
    plan: &mut Plan,
) -> bool {
    let Some(granted) = running.granted.filter(|_| world.memory.infeasible.is_none()) else { return false };
    let wanted = wanted(container);
    let (cpu, memory) = (granted.differs_in_cpu(wanted), granted.differs_in_memory(wanted));
    if !(cpu || memory) || world.memory.refused.get(&running.id) == Some(&wanted) {
        return false;
    }
    if (cpu && restarts(container, "cpu")) || (memory && restarts(container, "memory")) {
        plan.actions.push(Action::Kill {
            id: running.id.clone(),
            container: container.name.clone(),
            message: format!("Container {} resize requires restart", container.name),
            grace: pod::grace_period(world.pod),
        });
        return true;
    }
    plan.actions.push(Action::Resize { id: running.id.clone(), container: container.name.clone() });
    false
}

/// What the spec asks for, in the terms of the runtime.
pub fn wanted(container: &Container) -> Granted {
    let requirements = container.resources.as_ref();
    Granted {
        cpu_shares: resources::cpu_shares(resources::request(requirements, "cpu").unwrap_or(0)),
        cpu_quota: resources::limit(requirements, "cpu").map_or(0, resources::cpu_quota),
        memory: resources::limit(requirements, "memory").map_or(0, |milli| milli / 1000),
    }
}

fn restarts(container: &Container, resource: &str) -> bool {
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
}

/// Why the node could never grant what the pod asks for, if so.
pub fn infeasible(pod: &Pod, allocatable: &Amounts) -> Option<String> {
    ["cpu", "memory"].into_iter().find_map(|resource| {
        let capacity = allocatable.get(resource).and_then(resources::milli)?;
        let requested = resources::pod_request(pod, resource);
        let unit = if resource == "cpu" { 1 } else { 1000 };
        let (requested_text, capacity_text) = (requested / unit, capacity / unit);
        (requested > capacity).then(|| {
            format!("Node didn't have enough capacity: {resource}, requested: {requested_text}, capacity: {capacity_text}")
        })
    })
}
