//! InterPodAffinity: the wishes of the pod about its neighbours, and of those about it.

use super::MOST;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Points between the worst and the best node.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    if !request.neighbours.has_points() {
        return vec![0; nodes.len()];
    }
    let points: Vec<i64> = nodes.iter().map(|node| request.neighbours.points(node)).collect();
    let (least, most) =
        (points.iter().copied().min().unwrap_or(0), points.iter().copied().max().unwrap_or(0));
    points
        .into_iter()
        .map(|points| if most == least { 0 } else { (points - least) * MOST / (most - least) })
        .collect()
}
