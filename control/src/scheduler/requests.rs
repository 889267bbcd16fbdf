//! What a pod asks of a node: cpu in millicores, memory and other resources in their own units.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::quantity;
use std::collections::BTreeMap;

/// Amounts by resource name; cpu in thousandths, everything else in units.
pub(super) type Resources = BTreeMap<String, i64>;

/// What the scheduler assumes of a container that asks for nothing, when it scores.
const UNREQUESTED: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 << 20)];

/// Reads a map of quantities; one that cannot be read (the API refuses those) counts as nothing.
pub(super) fn amounts(map: Option<&BTreeMap<String, Quantity>>) -> Resources {
    let amount = |name: &str, text: &str| {
        let quantity: quantity::Quantity = text.parse().ok()?;
        Some(if name == "cpu" { quantity.milli() } else { quantity.units() })
    };
    map.into_iter()
        .flatten()
        .filter_map(|(name, Quantity(text))| Some((name.clone(), amount(name, text)?)))
        .collect()
}

/// The pod as a whole: its containers and sidecars together, or the largest init container with the sidecars
/// started before it, whichever is more; plus the overhead of its runtime class.
pub(super) fn of_pod(pod: &Pod) -> Resources {
    effective(pod, |container| amounts(requests(container)))
}

/// The same with assumptions for containers that ask for nothing.
pub(super) fn for_scoring(pod: &Pod) -> Resources {
    effective(pod, |container| {
        let mut asked = amounts(requests(container));
        for (name, amount) in UNREQUESTED {
            asked.entry(name.into()).or_insert(amount);
        }
        asked
    })
}

fn requests(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref().and_then(|ResourceRequirements { requests, .. }| requests.as_ref())
}

fn effective(pod: &Pod, of: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::new() };
    let mut sidecars = Resources::new();
    let mut largest_init = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &of(container));
            raise(&mut largest_init, &sidecars);
        } else {
            let mut during = of(container);
            add(&mut during, &sidecars);
            raise(&mut largest_init, &during);
        }
    }
    let mut total = sidecars;
    spec.containers.iter().for_each(|container| add(&mut total, &of(container)));
    raise(&mut total, &largest_init);
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// Adds each amount.
pub(super) fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(total: &mut Resources, floor: &Resources) {
    for (name, amount) in floor {
        let value = total.entry(name.clone()).or_insert(0);
        *value = (*value).max(*amount);
    }
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
        assert_eq!(of_pod(&pod)["cpu"], 1050 + 10, "the init container beside the sidecar is the most");
    }
}
