//! NodeAffinity: the sum of the weights of preferred terms that match.

use super::normalized;
use crate::scheduler::node_selector;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// Weights, relative to the best node.
pub(super) fn score(pod: &Pod, nodes: &[&NodeState]) -> Vec<i64> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let preferred = affinity
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
    let weight = |node: &&NodeState| {
        let terms = preferred.unwrap_or_default().iter();
        let matching =
            terms.filter(|term| node_selector::matches(std::slice::from_ref(&term.preference), &node.node));
        matching.map(|term| i64::from(term.weight)).sum()
    };
    normalized(nodes.iter().map(weight).collect(), false)
}
