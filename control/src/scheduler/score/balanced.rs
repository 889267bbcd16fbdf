//! NodeResourcesBalancedAllocation: cpu and memory should be used in like shares.

use super::MOST;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// 100 minus the deviation of the two shares. Pods that ask for neither would all go to the node where they are alike, so
/// they have no say.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let asked = &request.requested;
    if asked.cpu == 0 && asked.memory == 0 {
        return vec![0; nodes.len()];
    }
    let share =
        |allocatable: i64, used: i64| (allocatable != 0).then(|| (used as f64 / allocatable as f64).min(1.0));
    let balance = |node: &&NodeState| {
        let cpu = share(node.allocatable.cpu, node.requested.cpu + asked.cpu);
        let memory = share(node.allocatable.memory, node.requested.memory + asked.memory);
        let deviation = cpu.zip(memory).map_or(0.0, |(cpu, memory)| (cpu - memory).abs() / 2.0);
        ((1.0 - deviation) * MOST as f64) as i64
    };
    nodes.iter().map(balance).collect()
}
