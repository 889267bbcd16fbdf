//! The quality-of-service class of a pod, by what it asks for as a whole or, where it says nothing, by what its containers
//! ask for: nothing at all, everything that it may use, or something between.

use super::{limit, request, whole_pod};
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;

/// The three quality-of-service classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    #[allow(missing_docs)]
    Guaranteed,
    #[allow(missing_docs)]
    Burstable,
    #[allow(missing_docs)]
    BestEffort,
}

impl Qos {
    /// The word in `status.qosClass`.
    pub fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// `status.qosClass`.
pub fn qos(pod: &Pod) -> Qos {
    if pod::spec(pod).resources.is_some() {
        let asked = |resource| (whole_pod::request(pod, resource), whole_pod::limit(pod, resource));
        return class(["cpu", "memory"].map(asked));
    }
    class(pod::containers(pod).flat_map(|(_, container)| {
        let requirements = container.resources.as_ref();
        ["cpu", "memory"].map(|resource| (request(requirements, resource), limit(requirements, resource)))
    }))
}

/// From each request and its limit.
fn class(asked: impl IntoIterator<Item = (Option<i64>, Option<i64>)>) -> Qos {
    let (mut any, mut guaranteed) = (false, true);
    for (request, limit) in asked {
        any |= request.is_some() || limit.is_some();
        guaranteed &= limit.is_some() && request == limit;
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_the_pod_says_counts_before_what_its_containers_say() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
        let half = json!({"requests": {"cpu": "1"}});
        let more =
            json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "2", "memory": "1Mi"}});
        let class = |whole: &Value, containers: &Value| {
            let pod = json!({"spec": {"resources": whole, "containers": [
                {"name": "a", "resources": containers}, {"name": "b", "resources": containers}]}});
            qos(&serde_json::from_value(pod).unwrap())
        };
        let none = Value::Null;
        for (whole, containers, expected) in [
            (&none, &json!({}), Qos::BestEffort),
            (&none, &half, Qos::Burstable),
            (&none, &full, Qos::Guaranteed),
            (&full, &json!({}), Qos::Guaranteed),
            (&half, &json!({}), Qos::Burstable),
            (&more, &full, Qos::Burstable),
            (&json!({"limits": {"hugepages-2Mi": "2Mi"}}), &json!({}), Qos::BestEffort),
            // What the containers ask for is what the pod asks for, which is less than it may use.
            (&full, &json!({"requests": {"cpu": "100m"}}), Qos::Burstable),
        ] {
            assert_eq!(class(whole, containers), expected, "{whole} {containers}");
        }
    }
}
