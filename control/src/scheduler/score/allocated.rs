//! NodeResourcesFit: the mean share of cpu and memory that would be left free, or that would be taken.

use super::{MOST, Packing};
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Shares of what the node has.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState], packing: Packing) -> Vec<i64> {
    let share = |allocatable: i64, used: i64| {
        if allocatable <= 0 || used > allocatable {
            return 0;
        }
        match packing {
            Packing::LeastAllocated => (allocatable - used) * MOST / allocatable,
            Packing::MostAllocated => used * MOST / allocatable,
        }
    };
    let mean = |node: &&NodeState| {
        let cpu = share(node.allocatable.cpu, node.scored.cpu + request.scored.cpu);
        let memory = share(node.allocatable.memory, node.scored.memory + request.scored.memory);
        (cpu + memory) / 2
    };
    nodes.iter().map(mean).collect()
}
