//! What a pod asks of a node: cpu in millicores, memory and other resources in their own units.

use super::amounts::Amounts;
use crate::quota::pods::is_shared;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, BTreeSet};

/// What the scheduler assumes of a container that asks for nothing, when it scores.
const UNREQUESTED_CPU: i64 = 100;
const UNREQUESTED_MEMORY: i64 = 200 << 20;

/// The pod as a whole: its containers and sidecars together, or the largest init container with the sidecars
/// started before it, whichever is more; in place of that what the pod says for all of them; plus the overhead of its
/// runtime class.
pub(super) fn of_pod(pod: &Pod) -> Amounts {
    effective(pod, |container| of_container(pod, container))
}

/// The same with assumptions for containers that ask for nothing, where the pod does not speak for them.
pub(super) fn for_scoring(pod: &Pod) -> Amounts {
    let known = known_as_a_whole(pod);
    effective(pod, |container| {
        let mut asked = of_container(pod, container);
        let silent = |name: &str| {
            requests(container).is_none_or(|requests| !requests.contains_key(name)) && !known.contains(name)
        };
        if silent("cpu") {
            asked.cpu = asked.cpu.max(UNREQUESTED_CPU);
        }
        if silent("memory") {
            asked.memory = asked.memory.max(UNREQUESTED_MEMORY);
        }
        asked
    })
}

fn requests(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref().and_then(|ResourceRequirements { requests, .. }| requests.as_ref())
}

/// What the pod requests for all its containers, of the resources of which it can.
fn as_a_whole(pod: &Pod) -> impl Iterator<Item = (&String, &Quantity)> {
    let resources = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    requests.into_iter().flatten().filter(|(name, _)| is_shared(name))
}

/// Resources of which nothing need be assumed: of a pod that speaks for its containers, whatever anybody asks for.
fn known_as_a_whole(pod: &Pod) -> BTreeSet<&str> {
    let mut known: BTreeSet<&str> = as_a_whole(pod).map(|(name, _)| name.as_str()).collect();
    if !known.is_empty() {
        let spec = pod.spec.iter();
        let containers =
            spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        known.extend(containers.filter_map(requests).flatten().map(|(name, _)| name.as_str()));
    }
    known
}

/// While it is resized a container has the most of what it had and is to have.
fn of_container(pod: &Pod, container: &Container) -> Amounts {
    let wanted = Amounts::of(requests(container));
    let Some(status) = &pod.status else { return wanted };
    let mut statuses =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let told = statuses.find(|status| status.name == container.name);
    let Some((told, resources)) = told.and_then(|told| Some((told, told.resources.as_ref()?))) else {
        return wanted;
    };
    let conditions = status.conditions.iter().flatten();
    let mut pending = conditions.filter(|condition| condition.type_ == "PodResizePending");
    let infeasible = pending.next().is_some_and(|one| one.reason.as_deref() == Some("Infeasible"));
    let mut most = if infeasible { Amounts::default() } else { wanted };
    most.raise(&Amounts::of(resources.requests.as_ref()));
    most.raise(&Amounts::of(told.allocated_resources.as_ref()));
    most
}

fn effective(pod: &Pod, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let mut sidecars = Amounts::default();
    let mut largest_init = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&of(container));
            largest_init.raise(&sidecars);
        } else {
            let mut during = of(container);
            during.add(&sidecars);
            largest_init.raise(&during);
        }
    }
    let mut total = sidecars;
    spec.containers.iter().for_each(|container| total.add(&of(container)));
    total.raise(&largest_init);
    as_a_whole(pod).for_each(|(name, amount)| total.set(name, amount));
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}

/// Succeeded or failed: it uses nothing any more.
pub(super) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_and_sidecars() {
        let container = |cpu: &str, policy: Option<&str>| json!({"name": "c", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "containers": [container("100m", None), container("200m", None)],
                "initContainers": [container("50m", Some("Always")), container("1", None)],
                "overhead": {"cpu": "10m"},
            },
        }))
        .unwrap();
        assert_eq!(of_pod(&pod).cpu, 1050 + 10, "the init container beside the sidecar is the most");
    }

    #[test]
    fn a_pod_speaks_for_its_containers() {
        let amounts = |resources: serde_json::Value, container: serde_json::Value| {
            let spec = json!({"containers": [{"name": "c", "resources": {"requests": container}}, {"name": "d"}], "resources": resources});
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let (asked, scored) = (of_pod(&pod), for_scoring(&pod));
            (asked.cpu, asked.memory >> 20, scored.cpu, scored.memory >> 20)
        };
        assert_eq!(amounts(json!(null), json!({"cpu": "1"})), (1000, 0, 1100, 400));
        let both = json!({"requests": {"cpu": "2", "memory": "1Gi"}});
        assert_eq!(amounts(both, json!({"cpu": "1"})), (2000, 1024, 2000, 1024));
        let one = json!({"requests": {"memory": "1Gi"}});
        assert_eq!(amounts(one.clone(), json!({"cpu": "1"})), (1000, 1024, 1000, 1024));
        assert_eq!(amounts(one, json!({})), (0, 1024, 200, 1024));
    }

    #[test]
    fn a_resize_takes_the_most_of_before_and_after() {
        let cpu = |reason: &str| {
            let status = json!({"conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1"}}}]});
            let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]});
            of_pod(&serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": status})).unwrap())
                .cpu
        };
        assert_eq!((cpu("Deferred"), cpu("Infeasible")), (3000, 2000));
    }
}
