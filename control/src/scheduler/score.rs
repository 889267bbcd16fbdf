//! Scores: how good a node is for a pod, 0 to 100 each, weighted and summed as Kubernetes does.

mod affinity;
mod balanced;
mod image;
mod least_allocated;
mod taints;

use super::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// The best a single score can be.
const MOST: i64 = 100;

/// One score, over all nodes at once (some are relative to the best).
type Score = fn(&Pod, &[&NodeState]) -> Vec<i64>;

/// With Kubernetes' weights.
const SCORES: [(Score, i64); 5] = [
    (taints::score, 3),
    (affinity::score, 2),
    (least_allocated::score, 1),
    (balanced::score, 1),
    (image::score, 1),
];

/// The sum for each node.
pub(super) fn totals(pod: &Pod, nodes: &[&NodeState]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    for (score, weight) in SCORES {
        for (total, value) in totals.iter_mut().zip(score(pod, nodes)) {
            *total += value * weight;
        }
    }
    totals
}

/// Raw values as 0 to 100 of the largest; `reverse` makes the smallest the best.
fn normalized(values: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = values.iter().copied().max().unwrap_or(0);
    let scaled = |value: i64| if largest == 0 { 0 } else { value * MOST / largest };
    values.into_iter().map(|value| if reverse { MOST - scaled(value) } else { scaled(value) }).collect()
}
