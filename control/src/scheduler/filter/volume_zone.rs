//! VolumeZone: labels of a volume that name its zone or region, as they did before volumes had affinities. Several values
//! are joined by two underscores; a node without any such label is in every zone.

use super::Refusal;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;
use crate::scheduler::volumes::Need;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const OLD_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const KEYS: [(&str, &str); 4] = [(OLD_ZONE, ZONE), (OLD_REGION, REGION), (ZONE, ZONE), (REGION, REGION)];

/// Rules out nodes in another zone than a volume of the pod.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    let volumes = request.needs.iter().filter_map(|need| match need {
        Need::Volume(volume) => Some(volume),
        _ => None,
    });
    let has_zone = || KEYS.iter().any(|(key, _)| node.node.labels().contains_key(*key));
    let mut elsewhere = volumes.filter(|volume| !is_there(volume, node));
    let refused = elsewhere.next().is_some() && has_zone();
    refused.then(|| Refusal::fixed("node(s) had no available volume zone"))
}

fn is_there(volume: &PersistentVolume, node: &NodeState) -> bool {
    let labels = node.node.labels();
    KEYS.iter().all(|(key, today)| {
        let Some(values) = volume.labels().get(*key) else { return true };
        let own = labels.get(*key).or_else(|| labels.get(*today));
        own.is_some_and(|own| values.split("__").any(|value| value == own))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    #[test]
    fn a_volume_is_reached_from_its_zones() {
        let there = |volume: Value, node: Value| {
            let volume = serde_json::from_value(json!({"metadata": {"labels": volume}})).unwrap();
            let node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": node}})).unwrap();
            is_there(&volume, &NodeState::new(Arc::new(node)))
        };
        assert!(there(json!({}), json!({ZONE: "a"})));
        assert!(there(json!({ZONE: "a"}), json!({ZONE: "a", REGION: "r"})));
        assert!(!there(json!({ZONE: "a"}), json!({ZONE: "b"})));
        assert!(there(json!({ZONE: "a__b"}), json!({ZONE: "b"})));
        assert!(!there(json!({ZONE: "a"}), json!({REGION: "r"})));
        assert!(there(json!({OLD_ZONE: "a"}), json!({ZONE: "a"})));
        assert!(!there(json!({OLD_REGION: "r"}), json!({ZONE: "a"})));
    }
}
