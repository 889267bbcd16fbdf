//! NodeResourcesFit, LeastAllocated: the more cpu and memory would be left free, the better.

use super::MOST;
use crate::scheduler::requests;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// The mean of the free shares.
pub(super) fn score(pod: &Pod, nodes: &[&NodeState]) -> Vec<i64> {
    let asked = requests::for_scoring(pod);
    let free_share = |node: &NodeState, name: &str| {
        let allocatable = node.allocatable.get(name).copied().unwrap_or(0);
        let used = node.scored.get(name).copied().unwrap_or(0) + asked.get(name).copied().unwrap_or(0);
        if allocatable <= 0 || used > allocatable { 0 } else { (allocatable - used) * MOST / allocatable }
    };
    nodes.iter().map(|node| (free_share(node, "cpu") + free_share(node, "memory")) / 2).collect()
}
