//! What a pod asks of a node: cpu in millicores, memory and other resources in their own units.

use super::amounts::Amounts;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// What the scheduler assumes of a container that asks for nothing, when it scores.
const UNREQUESTED_CPU: i64 = 100;
const UNREQUESTED_MEMORY: i64 = 200 << 20;

/// The pod as a whole: its containers and sidecars together, or the largest init container with the sidecars
/// started before it, whichever is more; plus the overhead of its runtime class.
pub(super) fn of_pod(pod: &Pod) -> Amounts {
    effective(pod, |container| Amounts::of(requests(container)))
}

/// The same with assumptions for containers that ask for nothing.
pub(super) fn for_scoring(pod: &Pod) -> Amounts {
    effective(pod, |container| {
        let mut asked = Amounts::of(requests(container));
        let silent = |name: &str| requests(container).is_none_or(|requests| !requests.contains_key(name));
        if silent("cpu") {
            asked.cpu = UNREQUESTED_CPU;
        }
        if silent("memory") {
            asked.memory = UNREQUESTED_MEMORY;
        }
        asked
    })
}

fn requests(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref().and_then(|ResourceRequirements { requests, .. }| requests.as_ref())
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
}
