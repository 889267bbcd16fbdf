//! What a pod asks for and may use as a whole: its containers and sidecars together, or the largest init container with
//! the sidecars started before it, whichever is more; then what the pod itself says, for the resources of which it can.

use super::{Amounts, add, amounts, raise};
use crate::registry::fields;
use serde_json::Value;

/// Whether a pod can say how much of a resource all its containers have together.
pub(crate) fn is_shared(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// The `requests` or `limits` of the containers of a pod specification.
pub(crate) fn of_containers(spec: &Value, which: &str) -> Amounts {
    together(spec, |container| amounts(container.pointer(&format!("/resources/{which}"))))
}

/// What the author of a pod wrote, where a limit range looks at it: without overhead, and before any resize.
pub(crate) fn declared(pod: &Value, which: &str) -> Amounts {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut total = of_containers(spec, which);
    let own = amounts(spec.pointer(&format!("/resources/{which}")));
    total.extend(own.into_iter().filter(|(name, _)| matches!(&**name, "cpu" | "memory")));
    total
}

/// What a pod counts for. While its containers are resized, each counts for the most of what it had and is to have.
pub(crate) fn used(pod: &Value, which: &str) -> Amounts {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut total = together(spec, |container| of_container(pod, container, which));
    let own = amounts(spec.pointer(&format!("/resources/{which}")));
    total.extend(own.into_iter().filter(|(name, _)| is_shared(name)));
    let mut overhead = amounts(spec.get("overhead"));
    if which == "limits" {
        overhead.retain(|name, _| total.get(name).is_some_and(|limit| !limit.is_zero()));
    }
    add(&mut total, &overhead);
    total
}

/// Whether the pod says what all its containers may have together.
pub(crate) fn speaks_for_all(pod: &Value) -> bool {
    let says = |which: &str| {
        fields::pairs(pod, &format!("/spec/resources/{which}")).any(|(name, _)| is_shared(name))
    };
    says("requests") || says("limits")
}

fn together(spec: &Value, of: impl Fn(&Value) -> Amounts) -> Amounts {
    let (mut sidecars, mut largest) = (Amounts::new(), Amounts::new());
    for container in fields::list(spec, "/initContainers") {
        if fields::text(container, "/restartPolicy") == "Always" {
            add(&mut sidecars, &of(container));
            raise(&mut largest, &sidecars);
        } else {
            let mut during = of(container);
            add(&mut during, &sidecars);
            raise(&mut largest, &during);
        }
    }
    let mut total = sidecars;
    fields::list(spec, "/containers").iter().for_each(|container| add(&mut total, &of(container)));
    raise(&mut total, &largest);
    total
}

fn of_container(pod: &Value, container: &Value, which: &str) -> Amounts {
    let wanted = amounts(container.pointer(&format!("/resources/{which}")));
    let lists = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let mut statuses = lists.iter().flat_map(|list| fields::list(pod, list));
    let status = statuses.find(|status| status.get("name") == container.get("name"));
    let Some((status, resources)) = status.and_then(|status| Some((status, status.get("resources")?))) else {
        return wanted;
    };
    let mut most = if is_infeasible(pod) { Amounts::new() } else { wanted };
    raise(&mut most, &amounts(resources.get(which)));
    if which == "requests" {
        raise(&mut most, &amounts(status.get("allocatedResources")));
    }
    most
}

/// What is asked for can never be had on its node, so the containers stay as they are.
fn is_infeasible(pod: &Value) -> bool {
    let conditions = fields::list(pod, "/status/conditions");
    let pending = conditions.iter().find(|condition| fields::text(condition, "/type") == "PodResizePending");
    pending.is_some_and(|pending| fields::text(pending, "/reason") == "Infeasible")
}

#[cfg(test)]
mod tests {
    use super::super::shown;
    use super::*;
    use serde_json::json;

    fn container(name: &str, requests: Value) -> Value {
        json!({"name": name, "resources": {"requests": requests, "limits": requests}})
    }

    #[test]
    fn what_a_pod_says_itself_counts_in_place_of_the_sum() {
        let pod = |resources: Value| {
            json!({"spec": {"resources": resources, "overhead": {"cpu": "1"},
            "containers": [container("a", json!({"cpu": "1", "memory": "1Gi"})), container("b", json!({"cpu": "1", "ephemeral-storage": "1Gi"}))]}})
        };
        let of = |resources: Value| {
            let pod = pod(resources);
            (shown(&used(&pod, "requests")), shown(&used(&pod, "limits")), shown(&declared(&pod, "requests")))
        };
        let all = |text: &str| text.to_owned();
        assert_eq!(
            of(json!(null)),
            (
                all("cpu=3,ephemeral-storage=1Gi,memory=1Gi"),
                all("cpu=3,ephemeral-storage=1Gi,memory=1Gi"),
                all("cpu=2,ephemeral-storage=1Gi,memory=1Gi")
            )
        );
        let own = json!({"requests": {"cpu": "5", "hugepages-2Mi": "2Mi"}, "limits": {"memory": "4Gi"}});
        assert_eq!(
            of(own),
            (
                all("cpu=6,ephemeral-storage=1Gi,hugepages-2Mi=2Mi,memory=1Gi"),
                all("cpu=3,ephemeral-storage=1Gi,memory=4Gi"),
                all("cpu=5,ephemeral-storage=1Gi,memory=1Gi")
            )
        );
    }

    #[test]
    fn overhead_is_added_to_limits_that_there_are() {
        let pod = json!({"spec": {"overhead": {"cpu": "1", "memory": "1Mi"}, "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]}});
        assert_eq!(shown(&used(&pod, "limits")), "cpu=2");
        assert_eq!(shown(&used(&pod, "requests")), "cpu=1,memory=1Mi");
    }

    #[test]
    fn a_container_counts_for_the_most_of_what_it_had_and_is_to_have() {
        let pod = |conditions: Value| {
            json!({"spec": {"containers": [container("a", json!({"cpu": "3", "memory": "1Gi"}))]},
            "status": {"conditions": conditions, "containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "2", "memory": "3Gi"},
                "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}}]}})
        };
        assert_eq!(shown(&used(&pod(json!([])), "requests")), "cpu=3,memory=3Gi");
        assert_eq!(shown(&used(&pod(json!([])), "limits")), "cpu=3,memory=2Gi");
        let refused = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(shown(&used(&pod(refused.clone()), "requests")), "cpu=2,memory=3Gi");
        assert_eq!(shown(&used(&pod(refused), "limits")), "cpu=1,memory=2Gi");
    }
}
