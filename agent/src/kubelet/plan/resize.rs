//! In-place resize: a running container whose requests or limits were changed gets them without a restart, unless its
//! `resizePolicy` asks for one. What the node cannot grant, now or ever, is told in a condition; until then the pod goes
//! on as it was granted, and everything else of its spec counts.

use super::{Action, Plan, World};
use crate::kubelet::observed::{Granted, ObservedContainer};
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::resources::{self, Amounts, Qos};
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
    let wanted = wanted(world.pod, container);
    let (cpu, memory) = (granted.differs_in_cpu(wanted), granted.differs_in_memory(wanted));
    if !(cpu || memory) {
        return false;
    }
    let refused = world.memory.refused.get(&running.id).filter(|refused| refused.wanted == wanted);
    if let Some(refused) = refused.filter(|refused| refused.retry_at > world.now) {
        plan.wake(refused.retry_at);
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
pub fn wanted(pod: &Pod, container: &Container) -> Granted {
    let requirements = container.resources.as_ref();
    Granted {
        cpu_shares: resources::cpu_shares(resources::request(requirements, "cpu").unwrap_or(0)),
        cpu_quota: resources::container_limit(pod, container, "cpu").map_or(0, resources::cpu_quota),
        memory: resources::container_limit(pod, container, "memory").map_or(0, |milli| milli / 1000),
        memory_request: restarts(container, "memory")
            .then(|| resources::request(requirements, "memory").unwrap_or(0)),
        own_processors: false,
    }
}

/// Whether a container is to have less memory than it may use now.
pub fn takes_memory(granted: Granted, wanted: Granted) -> bool {
    wanted.memory != 0 && (granted.memory == 0 || wanted.memory < granted.memory)
}

/// Whether what it uses fits below the new limit; the error is the kubelet's.
pub fn leaves_memory(name: &str, wanted: Granted, usage: Option<u64>) -> Result<(), String> {
    let limit = u64::try_from(wanted.memory).unwrap_or(0);
    let wrong = match usage {
        Some(usage) if usage < limit => return Ok(()),
        Some(usage) => {
            format!(
                "attempting to set container \"{name}\" memory limit ({limit}) below current usage ({usage})"
            )
        }
        None => format!("missing container \"{name}\" memory usage"),
    };
    Err(format!("cannot decrease memory limits: {wrong}"))
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

/// A pod that has processors for itself keeps as many as it began with.
pub fn keeps_processors(requested: &Pod, granted: &Pod) -> Option<ResizePending> {
    let request = |container: &Container| resources::request(container.resources.as_ref(), "cpu");
    let other = |container: &Container| {
        pod::find_container(granted, &container.name)
            .is_some_and(|(_, before)| request(&before) != request(container))
    };
    let lasting = pod::containers(requested).filter(|(kind, _)| *kind != Kind::Init);
    let changes = resources::qos(requested) == Qos::Guaranteed && lasting.into_iter().any(|(_, c)| other(c));
    let message = "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"";
    changes.then(|| ResizePending { reason: "Infeasible", message: message.to_string() })
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
            granted: Some(wanted(pod, container)),
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
    fn who_has_processors_alone_keeps_their_number() {
        let with = |cpu: &str, memory: &str| -> Pod {
            let amounts = json!({"limits": {"cpu": cpu, "memory": memory}});
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": amounts}]}}))
                .unwrap()
        };
        let pending = keeps_processors(&with("2", "1Mi"), &with("1", "1Mi")).unwrap();
        assert_eq!(pending.reason, "Infeasible");
        assert!(pending.message.ends_with("alongside CPU Manager policy \"static\""), "{}", pending.message);
        assert_eq!(keeps_processors(&with("1", "2Mi"), &with("1", "1Mi")), None);
        let mut burstable = with("2", "1Mi");
        let amounts = json!({"requests": {"cpu": "2"}});
        burstable.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(amounts).unwrap();
        assert_eq!(keeps_processors(&burstable, &with("1", "1Mi")), None, "it shares");
    }

    #[test]
    fn memory_in_use_is_not_taken_away() {
        let with = |memory| Granted { cpu_shares: 2, memory, ..Granted::default() };
        for (before, after, takes) in
            [(0, 0, false), (0, 9, true), (9, 0, false), (9, 10, false), (10, 9, true)]
        {
            assert_eq!(takes_memory(with(before), with(after)), takes, "{before} {after}");
        }
        assert_eq!(leaves_memory("c", with(10), Some(9)), Ok(()));
        let refusal = |usage| leaves_memory("c", with(10), usage).unwrap_err();
        let text = "cannot decrease memory limits: attempting to set container \"c\" memory limit (10) below current usage (10)";
        assert_eq!(refusal(Some(10)), text);
        assert!(refusal(None).ends_with("missing container \"c\" memory usage"));
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
