//! TaintToleration: the fewer PreferNoSchedule taints that are not tolerated, the better.

use super::normalized;
use crate::controllers::node_lifecycle::tolerates;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Counts, reversed.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let untolerated = |node: &&NodeState| {
        let taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let soft = taints.filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !request.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
            .count() as i64
    };
    normalized(nodes.iter().map(untolerated).collect(), true)
}
