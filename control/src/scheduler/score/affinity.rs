//! NodeAffinity: the sum of the weights of preferred terms that match.

use super::normalized;
use crate::scheduler::node_selector;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Weights, relative to the best node.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let affinity = request.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
    let Some(preferred) = preferred else { return vec![0; nodes.len()] };
    let weight = |node: &&NodeState| {
        let matching = preferred
            .iter()
            .filter(|term| node_selector::matches(std::slice::from_ref(&term.preference), &node.node));
        matching.map(|term| i64::from(term.weight)).sum()
    };
    normalized(nodes.iter().map(weight).collect(), false)
}
