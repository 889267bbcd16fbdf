//! PodTopologySpread: the less crowded with pods of its kind, the better; nothing where a label is missing.

use crate::scheduler::crowding;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Relative to the most crowded node.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    if request.wishes.is_empty() {
        return vec![0; nodes.len()];
    }
    crowding::scores(&request.wishes.crowding(request, nodes))
}
