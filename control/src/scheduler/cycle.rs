//! One decision: filter, score, choose; or say for how many nodes which reason held.

use super::filter;
use super::score;
use super::snapshot::{NodeState, Snapshot};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// What became of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It goes there.
    Node(String),
    /// It fits nowhere; the message of its condition and event.
    None(String),
}

/// Decides where a pod goes; of equally good nodes the one with the fewest pods, then the first by name.
pub(super) fn decide(pod: &Pod, snapshot: &Snapshot) -> Decision {
    let mut ruled_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<&NodeState> = Vec::new();
    for node in snapshot.nodes.values() {
        let reasons = filter::reasons(pod, node);
        if reasons.is_empty() {
            feasible.push(node);
        }
        reasons.into_iter().for_each(|reason| *ruled_out.entry(reason).or_insert(0) += 1);
    }
    let totals = score::totals(pod, &feasible);
    let best = feasible.iter().zip(totals).min_by_key(|(node, total)| (-total, node.pods.len(), node.name()));
    match best {
        Some((node, _)) => Decision::Node(node.name()),
        None => Decision::None(message(snapshot.nodes.len(), &ruled_out)),
    }
}

/// `0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. ...`
fn message(nodes: usize, ruled_out: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut counted: Vec<String> =
        ruled_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    let reasons = counted.join(", ");
    let unresolvable = ruled_out
        .iter()
        .filter(|(reason, _)| !is_resource(reason))
        .map(|(_, count)| count)
        .sum::<usize>()
        .min(nodes);
    let mut preemption = Vec::new();
    if nodes > unresolvable {
        preemption.push(format!("{} No preemption victims found for incoming pod", nodes - unresolvable));
    }
    if unresolvable > 0 {
        preemption.push(format!("{unresolvable} Preemption is not helpful for scheduling"));
    }
    format!(
        "0/{nodes} nodes are available: {reasons}. preemption: 0/{nodes} nodes are available: {}.",
        preemption.join(", ")
    )
}

/// Shortages could be ended by ending other pods.
fn is_resource(reason: &str) -> bool {
    reason.starts_with("Insufficient ") || reason == "Too many pods" || reason.contains("free ports")
}

#[cfg(test)]
mod tests;
