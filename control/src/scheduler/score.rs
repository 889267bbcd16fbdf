//! Scores: how good a node is for a pod, 0 to 100 each, weighted and summed as Kubernetes does.

mod affinity;
mod allocated;
mod balanced;
mod image;
mod neighbours;
mod spread;
mod taints;

use super::request::Request;
use super::snapshot::NodeState;

/// The best a single score can be.
const MOST: i64 = 100;

/// Which nodes are better where the pod fits on several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// The emptier one: load is spread out.
    #[default]
    LeastAllocated,
    /// The fuller one: nodes are filled up one after the other.
    MostAllocated,
}

/// One score, over all nodes at once (some are relative to the best).
type Score = fn(&Request<'_>, &[&NodeState]) -> Vec<i64>;

/// With Kubernetes' weights.
const SCORES: [(Score, i64); 5] = [
    (taints::score, 3),
    (affinity::score, 2),
    (neighbours::score, 2),
    (balanced::score, 1),
    (image::score, 1),
];

/// The other one, which depends on where all the others are.
pub(super) const WEIGHT_OF_SPREAD: i64 = 2;

/// The sum for each node.
pub(super) fn totals(request: &Request<'_>, nodes: &[&NodeState], packing: Packing) -> Vec<i64> {
    let mut totals = apart_from_spread(request, nodes, packing);
    for (total, value) in totals.iter_mut().zip(spread::score(request, nodes)) {
        *total += value * WEIGHT_OF_SPREAD;
    }
    totals
}

/// The sum without what pods of the same kind have to say.
pub(super) fn apart_from_spread(request: &Request<'_>, nodes: &[&NodeState], packing: Packing) -> Vec<i64> {
    let mut totals = allocated::score(request, nodes, packing);
    for (score, weight) in SCORES {
        for (total, value) in totals.iter_mut().zip(score(request, nodes)) {
            *total += value * weight;
        }
    }
    totals
}

/// What balance alone says.
#[cfg(test)]
pub(super) fn balance(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    balanced::score(request, nodes)
}

/// Raw values as 0 to 100 of the largest; `reverse` makes the smallest the best.
fn normalized(values: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = values.iter().copied().max().unwrap_or(0);
    let scaled = |value: i64| if largest == 0 { 0 } else { value * MOST / largest };
    values.into_iter().map(|value| if reverse { MOST - scaled(value) } else { scaled(value) }).collect()
}
