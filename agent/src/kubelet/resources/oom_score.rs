//! Whom the kernel kills first when memory runs out: those who use more than they asked for, before those who do not, and
//! whoever asked for nothing before both.

use super::{Qos, containers_request, qos, request, whole_pod};
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::pressure::is_critical;
use k8s_openapi::api::core::v1::{Container, Pod};

const NODE_CRITICAL: &str = "system-node-critical";
const LAST: i64 = -997;
const FIRST: i64 = 1000;

/// `oom_score_adj` of a container on a machine with `node_memory` bytes.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    if is_critical(pod) && pod::spec(pod).priority_class_name.as_deref() == Some(NODE_CRITICAL) {
        return LAST;
    }
    match qos(pod) {
        Qos::Guaranteed => LAST,
        Qos::BestEffort => FIRST,
        Qos::Burstable => {
            let own = bytes(container);
            // A sidecar goes no sooner than those whom it serves.
            let least =
                pod::spec(pod).containers.iter().map(bytes).min().filter(|_| is_sidecar(pod, container));
            let asked = own.max(least.unwrap_or(0)) + share(pod);
            let part = i128::from(asked) * 1000 / i128::from(node_memory.max(1));
            (FIRST - i64::try_from(part).unwrap_or(FIRST)).clamp(FIRST + LAST, FIRST - 1)
        }
    }
}

/// What the container asks for.
fn bytes(container: &Container) -> i64 {
    request(container.resources.as_ref(), "memory").unwrap_or(0) / 1000
}

/// What the pod asks for beyond its containers, in equal parts.
fn share(pod: &Pod) -> i64 {
    let Some(whole) = whole_pod::request(pod, "memory") else { return 0 };
    let rest = (whole - containers_request(pod, "memory")).max(0) / 1000;
    let count = i64::try_from(pod::containers(pod).count()).unwrap_or(i64::MAX);
    rest / count.max(1)
}

fn is_sidecar(pod: &Pod, container: &Container) -> bool {
    pod::init_containers(pod).any(|(kind, other)| kind == Kind::Sidecar && other.name == container.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn score(whole: Value, sidecar: &str, mains: [&str; 2], name: &str) -> i64 {
        let asks = |amount: &str| json!({"requests": {"memory": amount}});
        let [first, second] = mains;
        let pod: Pod = serde_json::from_value(json!({"spec": {"resources": whole,
            "initContainers": [{"name": "side", "restartPolicy": "Always", "resources": asks(sidecar)}],
            "containers": [{"name": "one", "resources": asks(first)}, {"name": "two", "resources": asks(second)}]}}))
        .unwrap();
        let (_, container) = pod::find_container(&pod, name).unwrap();
        oom_score_adj(&pod, &container, 1000)
    }

    #[test]
    fn a_sidecar_goes_no_sooner_than_those_it_serves() {
        assert_eq!(score(Value::Null, "0", ["100", "300"], "one"), 900);
        assert_eq!(score(Value::Null, "0", ["100", "300"], "side"), 900);
        assert_eq!(score(Value::Null, "200", ["100", "300"], "side"), 800);
        assert_eq!(score(Value::Null, "200", ["0", "300"], "one"), 999);
    }

    #[test]
    fn what_the_pod_asks_for_beyond_its_containers_is_shared() {
        let whole = || json!({"requests": {"memory": "700"}});
        assert_eq!(score(whole(), "0", ["100", "300"], "one"), 800, "a third of what is left");
        assert_eq!(score(whole(), "0", ["100", "300"], "two"), 600);
        assert_eq!(score(whole(), "0", ["100", "300"], "side"), 800);
    }
}
