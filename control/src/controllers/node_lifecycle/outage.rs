//! Outages: where very many nodes of a zone are not ready at once, it is more likely the network, or this server, than the
//! nodes. Then pods are left where they are: moving them would only make it worse.

use super::condition;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// From this share of the nodes of a zone on it is an outage, if there are more than [`FEW`].
const SHARE: f64 = 0.55;
/// So many nodes fail by themselves.
const FEW: usize = 2;
/// In a zone of more nodes than this pods are moved all the same, though not in haste.
const LARGE: usize = 50;

/// What nodes that are not ready mean for their pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// They have failed by themselves: their pods go elsewhere.
    None,
    /// Nothing is begun, or not yet; what has begun goes on.
    OfMany,
    /// Not one node is ready: whatever has begun is taken back.
    OfAll,
}

/// Between two nodes of a zone that are taken for lost; the longer one in an outage of a large zone.
const USUAL: SignedDuration = SignedDuration::from_secs(10);
const CAREFUL: SignedDuration = SignedDuration::from_secs(100);

/// Ready nodes, and all nodes, by zone.
type Zones = BTreeMap<(String, String), (usize, usize)>;

/// How it is around a node, and how long after another one of its zone it is taken for lost.
pub(super) fn around(node: &Node, all: &[Arc<Node>]) -> (Outage, SignedDuration) {
    let mut zones = Zones::new();
    for node in all {
        let (ready, count) = zones.entry(zone_of(node)).or_default();
        *ready += usize::from(condition(node, "Ready") == Some("True"));
        *count += 1;
    }
    if zones.values().all(|(ready, _)| *ready == 0) {
        return (Outage::OfAll, USUAL);
    }
    let (ready, count) = zones.get(&zone_of(node)).copied().unwrap_or_default();
    let failed = count - ready;
    let many = ready > 0 && failed > FEW && failed as f64 / count as f64 >= SHARE;
    match many {
        true if count <= LARGE => (Outage::OfMany, USUAL),
        true => (Outage::None, CAREFUL),
        false => (Outage::None, USUAL),
    }
}

/// Region and zone.
pub(super) fn zone_of(node: &Node) -> (String, String) {
    let label = |name: &str| {
        let labels = node.labels();
        let value = labels.get(&format!("topology.kubernetes.io/{name}"));
        let old = || labels.get(&format!("failure-domain.beta.kubernetes.io/{name}"));
        value.or_else(old).cloned().unwrap_or_default()
    };
    (label("region"), label("zone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(zone: &str, ready: bool) -> Arc<Node> {
        let ready = if ready { "True" } else { "Unknown" };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn many_at_once_are_an_outage() {
        for (failed, ready, expected) in [
            (1, 0, Outage::OfAll),
            (3, 0, Outage::OfAll),
            (1, 1, Outage::None),
            (2, 1, Outage::None),
            (3, 1, Outage::OfMany),
            (3, 2, Outage::OfMany),
            (3, 3, Outage::None),
            (30, 20, Outage::OfMany),
            (40, 20, Outage::None),
        ] {
            let mut all = vec![node("a", false); failed];
            all.extend(vec![node("a", true); ready]);
            let (outage, interval) = around(&all[0], &all);
            assert_eq!(outage, expected, "{failed} failed, {ready} ready");
            assert_eq!(interval == CAREFUL, failed == 40, "{failed} failed, {ready} ready");
        }
    }

    #[test]
    fn zones_fail_apart() {
        let all = [node("a", false), node("a", false), node("a", false), node("b", true)];
        assert_eq!(around(&all[0], &all).0, Outage::None, "a zone of which all failed, but others did not");
        let partly = [&all[..], &[node("a", true)]].concat();
        assert_eq!(around(&partly[0], &partly).0, Outage::OfMany);
        assert_eq!(around(&node("b", false), &partly).0, Outage::None);
    }
}
