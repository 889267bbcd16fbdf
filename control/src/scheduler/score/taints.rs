//! TaintToleration: the fewer PreferNoSchedule taints that are not tolerated, the better.

use super::normalized;
use crate::controllers::node_lifecycle::tolerates;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// Counts, reversed.
pub(super) fn score(pod: &Pod, nodes: &[&NodeState]) -> Vec<i64> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let untolerated = |node: &&NodeState| {
        let taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let soft = taints.filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))).count() as i64
    };
    normalized(nodes.iter().map(untolerated).collect(), true)
}
