//! PodTopologySpread: the emptier the zones of a node, the better; nothing where a label is missing.

use super::MOST;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Crowding turned around, relative to the most crowded node.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    if !request.spread.has_wishes() {
        return vec![0; nodes.len()];
    }
    let crowding: Vec<Option<f64>> = nodes.iter().map(|node| request.spread.crowding(node)).collect();
    let most = crowding.iter().flatten().copied().fold(0.0, f64::max);
    let least = crowding.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let score = |crowding: Option<f64>| match crowding {
        None => 0,
        Some(_) if most <= 0.0 => MOST,
        Some(crowding) => (MOST as f64 * (most + least - crowding) / most) as i64,
    };
    crowding.into_iter().map(score).collect()
}
