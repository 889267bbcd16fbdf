//! In-place resize: a running container whose requests or limits were changed gets them without a restart, unless its
//! `resizePolicy` asks for one. What the node cannot grant, now or ever, is told in a condition; until then the pod goes
//! on as it was granted, and everything else of its spec counts.

use super::{Action, Plan, World};
use crate::kubelet::observed::{Granted, ObservedContainer};
use crate::kubelet::pod;
use crate::kubelet::resources::{self, Amounts};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, ResourceRequirements};

/// The condition that tells of a resize that waits.
pub const RESIZE_PENDING: &str = "PodResizePending";

/// Plans the resize of one running container; true when it must be restarted for it.
pub(super) fn resize(
    world: World<'_>,
    container: &Container,
    running: &ObservedContainer,
    plan: &mut Plan,
) -> bool {
    let Some(granted) = running.granted else { return false };
    let wanted = wanted(container);
    let (cpu, memory) = (granted.differs_in_cpu(wanted), granted.differs_in_memory(wanted));
    if !(cpu || memory)
        || world.memory.refused.get(&running.id).is_some_and(|refused| refused.wanted == wanted)
    {
        return false;
    }
    if (cpu && restarts(container, "cpu")) || (memory && restarts(container, "memory")) {
        plan.actions.push(Action::Kill {
            id: running.id.clone(),
            container: container.name.clone(),
            message: format!("Container {} resize requires restart", container.name),
            grace: pod::grace_period(world.pod),
            replaced: true,
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
        memory_request: restarts(container, "memory")
            .then(|| resources::request(requirements, "memory").unwrap_or(0)),
    }
}

fn restarts(container: &Container, resource: &str) -> bool {
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
}

/// Why a pod does not have what its spec asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizePending {
    /// `Infeasible` where the node could never grant it, `Deferred` where others have it now.
    pub reason: &'static str,
    #[allow(missing_docs)]
    pub message: String,
}

/// Whether the node can give a pod that has `granted` what `requested` asks for, beside the `others`.
pub fn resize_pending(
    requested: &Pod,
    granted: &Pod,
    others: &[&Pod],
    allocatable: &Amounts,
) -> Option<ResizePending> {
    let grows = |resource: &&str| {
        resources::pod_request(requested, resource) > resources::pod_request(granted, resource)
    };
    let short = ["cpu", "memory"].into_iter().filter(grows).filter_map(|resource| {
        let capacity = allocatable.get(resource).and_then(resources::milli)?;
        let wanted = resources::pod_request(requested, resource);
        let used: i64 = others.iter().map(|other| resources::pod_request(other, resource)).sum();
        let unit = if resource == "cpu" { 1 } else { 1000 };
        let (wanted_text, used_text, capacity_text) = (wanted / unit, used / unit, capacity / unit);
        if wanted > capacity {
            let message = format!("Node didn't have enough capacity: {resource}, requested: {wanted_text}, capacity: {capacity_text}");
            return Some(ResizePending { reason: "Infeasible", message });
        }
        let message = format!("Node didn't have enough resource: {resource}, requested: {wanted_text}, used: {used_text}, capacity: {capacity_text}");
        (used.saturating_add(wanted) > capacity).then_some(ResizePending { reason: "Deferred", message })
    });
    // What can never be outweighs what cannot be yet.
    short.min_by_key(|pending| pending.reason == "Deferred")
}

/// `pod` with the requests and limits that its containers have in `granted`.
pub fn with_resources_of(pod: &Pod, granted: &Pod) -> Pod {
    let mut result = pod.clone();
    let spec = result.spec.get_or_insert_default();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some((_, before)) = pod::find_container(granted, &container.name) {
            container.resources = before.resources;
        }
    }
    result
}

/// What the pod's status says about a resize that waits.
pub fn pending_of(pod: &Pod) -> Option<ResizePending> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let is_it = |condition: &&PodCondition| condition.type_ == RESIZE_PENDING && condition.status == "True";
    let condition = conditions.iter().find(is_it)?;
    let infeasible = condition.reason.as_deref() == Some("Infeasible");
    let reason = if infeasible { "Infeasible" } else { "Deferred" };
    Some(ResizePending { reason, message: condition.message.clone().unwrap_or_default() })
}

/// The pod as this node granted it, from its object, where that is not what it asks for: while a resize is pending, the
/// status tells what the containers have.
pub fn as_granted(pod: &Pod) -> Option<Pod> {
    pending_of(pod)?;
    let status = pod.status.as_ref()?;
    let mut result = pod.clone();
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let spec = result.spec.get_or_insert_default();
    for status in statuses {
        let mut containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        let container = containers.find(|container| container.name == status.name);
        if let (Some(container), Some(has)) = (container, &status.resources) {
            let requests = status.allocated_resources.clone().or_else(|| has.requests.clone());
            container.resources = Some(ResourceRequirements { requests, ..has.clone() });
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::super::{Memory, plan};
    use super::*;
    use crate::kubelet::observed::{ObservedPod, RunState, Sandbox};
    use jiff::Timestamp;
    use serde_json::json;

    /// A pod of a sidecar and a main container that run with what they ask for.
    fn with(side_cpu: &str, request: &str, policy: &str) -> Pod {
        let side =
            json!({"name": "side", "restartPolicy": "Always", "resources": {"limits": {"cpu": side_cpu}}});
        let main = json!({"name": "main", "resources": {"requests": {"memory": request}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": policy}]});
        let spec = json!({"initContainers": [side], "containers": [main]});
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap()
    }

    fn running(pod: &Pod) -> ObservedPod {
        let at = Timestamp::UNIX_EPOCH;
        let sandbox = Sandbox { id: "s".into(), ready: true, created_at: at, attempt: 0, ips: vec![] };
        let one = |container: &Container| ObservedContainer {
            id: container.name.clone(),
            sandbox_id: "s".into(),
            name: container.name.clone(),
            restart_count: 0,
            hash: pod::container_hash(container),
            state: RunState::Running,
            created_at: at,
            started_at: Some(at),
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            log_path: String::new(),
            user: None,
            granted: Some(wanted(container)),
            termination_message: None,
        };
        let containers = pod::containers(pod).map(|(_, container)| one(container)).collect();
        ObservedPod { sandboxes: vec![sandbox], containers }
    }

    fn actions(before: &Pod, after: &Pod) -> Vec<Action> {
        let (observed, memory) = (running(before), Memory::default());
        let now = Timestamp::UNIX_EPOCH;
        let world =
            World { pod: after, observed: &observed, memory: &memory, ending: None, blocked: false, now };
        plan(world).actions
    }

    #[test]
    fn sidecars_are_resized_and_a_request_of_memory_may_ask_for_a_restart() {
        let before = with("1", "1Mi", "RestartContainer");
        assert_eq!(actions(&before, &before), []);
        let resized = actions(&before, &with("2", "1Mi", "RestartContainer"));
        assert_eq!(resized, [Action::Resize { id: "side".into(), container: "side".into() }]);
        let restarted = actions(&before, &with("1", "2Mi", "RestartContainer"));
        assert!(
            matches!(&restarted[..], [Action::Kill { id, replaced: true, .. }] if id == "main"),
            "{restarted:?}"
        );
        let before = with("1", "1Mi", "NotRequired");
        assert_eq!(actions(&before, &with("1", "2Mi", "NotRequired")), [], "the kernel knows nothing of it");
    }
}
