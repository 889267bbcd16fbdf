//! NodeResourcesFit: the mean share of cpu and memory that would be left free, or that would be taken.

use super::{MOST, Packing};
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Shares of what the node has.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState], packing: Packing) -> Vec<i64> {
    let share = |allocatable: i64, used: i64| {
        // With what is assumed of pods that ask for nothing a node may have less than is taken.
        let used = used.min(allocatable);
        (allocatable > 0).then(|| match packing {
            Packing::LeastAllocated => (allocatable - used) * MOST / allocatable,
            Packing::MostAllocated => used * MOST / allocatable,
        })
    };
    let mean = |node: &&NodeState| {
        let cpu = share(node.allocatable.cpu, node.scored.cpu + request.scored.cpu);
        let memory = share(node.allocatable.memory, node.scored.memory + request.scored.memory);
        let known: Vec<i64> = [cpu, memory].into_iter().flatten().collect();
        known.iter().sum::<i64>() / i64::try_from(known.len()).unwrap_or(1).max(1)
    };
    nodes.iter().map(mean).collect()
}
