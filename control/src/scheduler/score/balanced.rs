//! NodeResourcesBalancedAllocation: cpu and memory should be used in like shares.

use super::MOST;
use crate::scheduler::requests;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// 100 minus the deviation of the two shares.
pub(super) fn score(pod: &Pod, nodes: &[&NodeState]) -> Vec<i64> {
    let asked = requests::for_scoring(pod);
    let share = |node: &NodeState, name: &str| {
        let allocatable = node.allocatable.get(name).copied().unwrap_or(0);
        let used = node.scored.get(name).copied().unwrap_or(0) + asked.get(name).copied().unwrap_or(0);
        if allocatable <= 0 { 1.0 } else { (used as f64 / allocatable as f64).min(1.0) }
    };
    let balance = |node: &&NodeState| {
        let deviation = (share(node, "cpu") - share(node, "memory")).abs() / 2.0;
        ((1.0 - deviation) * MOST as f64) as i64
    };
    nodes.iter().map(balance).collect()
}
