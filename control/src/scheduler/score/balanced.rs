//! NodeResourcesBalancedAllocation: cpu and memory should be used in like shares.

use super::MOST;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// 100 minus the deviation of the two shares.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let share = |allocatable: i64, used: i64| {
        if allocatable <= 0 { 1.0 } else { (used as f64 / allocatable as f64).min(1.0) }
    };
    let balance = |node: &&NodeState| {
        let cpu = share(node.allocatable.cpu, node.scored.cpu + request.scored.cpu);
        let memory = share(node.allocatable.memory, node.scored.memory + request.scored.memory);
        let deviation = (cpu - memory).abs() / 2.0;
        ((1.0 - deviation) * MOST as f64) as i64
    };
    nodes.iter().map(balance).collect()
}
