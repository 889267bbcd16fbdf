//! What a pod asks for as a whole (`spec.resources`): processors, memory and huge pages that its containers share. What it
//! names counts in place of the sum over its containers; for what it does not name, that sum counts as ever. Requests that
//! are absent are read with the API's defaults.

use super::{HUGE_PAGES, amount, containers_request};
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

fn is_shared(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with(HUGE_PAGES)
}

fn requirements<'a>(pod: &'a Pod, resource: &str) -> Option<&'a ResourceRequirements> {
    pod::spec(pod).resources.as_ref().filter(|_| is_shared(resource))
}

/// Whether the pod asks for anything as a whole.
pub fn asks(pod: &Pod) -> bool {
    let Some(own) = &pod::spec(pod).resources else { return false };
    own.requests.iter().chain(&own.limits).flatten().any(|(resource, _)| is_shared(resource))
}

/// The request in thousandths; without one, what its containers ask for in all, else its limit.
pub fn request(pod: &Pod, resource: &str) -> Option<i64> {
    let own = requirements(pod, resource)?;
    // Only where there is a limit of anything are absent requests filled in.
    let filled = own.limits.as_ref().is_some_and(|limits| !limits.is_empty());
    let containers = || Some(containers_request(pod, resource)).filter(|sum| *sum > 0 && filled);
    amount(own.requests.as_ref(), resource).or_else(containers).or_else(|| limit(pod, resource))
}

/// The limit in thousandths.
pub fn limit(pod: &Pod, resource: &str) -> Option<i64> {
    amount(requirements(pod, resource)?.limits.as_ref(), resource)
}

#[cfg(test)]
mod tests {
    use super::super::{container_limit, pod_limit, pod_request};
    use super::*;
    use serde_json::{Value, json};

    fn pod(whole: Value, containers: [Value; 2]) -> Pod {
        let containers: Vec<Value> =
            containers.into_iter().map(|resources| json!({"name": "c", "resources": resources})).collect();
        serde_json::from_value(json!({"spec": {"resources": whole, "containers": containers,
            "overhead": {"cpu": "10m"}}}))
        .unwrap()
    }

    #[test]
    fn what_it_names_counts_and_for_the_rest_its_containers() {
        let one = || json!({"requests": {"cpu": "100m", "memory": "1Ki"}, "limits": {"memory": "2Ki"}});
        let cpu = |whole, containers| {
            let pod = pod(whole, containers);
            (pod_request(&pod, "cpu"), pod_limit(&pod, "cpu"))
        };
        let memory = |whole, containers| {
            let pod = pod(whole, containers);
            (pod_request(&pod, "memory") / 1000, pod_limit(&pod, "memory").map(|milli| milli / 1000))
        };
        assert_eq!(cpu(json!({}), [one(), json!({})]), (110, None));
        assert_eq!(cpu(json!({"requests": {"cpu": "1"}}), [one(), one()]), (1010, None));
        assert_eq!(cpu(json!({"limits": {"cpu": "1"}}), [one(), one()]), (210, Some(1010)));
        assert_eq!(cpu(json!({"limits": {"cpu": "1"}}), [json!({}), json!({})]), (1010, Some(1010)));
        assert_eq!(memory(json!({"limits": {"cpu": "1"}}), [one(), one()]), (2048, Some(4096)));
        assert_eq!(memory(json!({"limits": {"memory": "8Ki"}}), [one(), json!({})]), (1024, Some(8192)));
        assert_eq!(memory(json!({"requests": {"memory": "8Ki"}}), [one(), json!({})]), (8192, None));
    }

    #[test]
    fn a_container_without_a_limit_has_that_of_the_pod() {
        let own = json!({"limits": {"cpu": "100m"}});
        let pod = pod(json!({"limits": {"cpu": "1", "memory": "1"}}), [own, json!({})]);
        let [first, second] = &pod::spec(&pod).containers[..] else { panic!() };
        assert_eq!(container_limit(&pod, first, "cpu"), Some(100));
        assert_eq!(container_limit(&pod, second, "cpu"), Some(1000));
        assert_eq!(container_limit(&pod, first, "memory"), Some(1000));
        assert_eq!(container_limit(&pod, first, "ephemeral-storage"), None);
    }
}
