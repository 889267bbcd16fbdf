//! One decision: filter, score, choose; or say for how many nodes which reason held.

use super::alike::{Alike, Kinds};
use super::filter::{self, Refusal};
use super::request::Request;
use super::score::{self, Packing};
use super::snapshot::{NodeState, Snapshot};
use super::volumes::Need;
use crate::controllers::pods;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Clusters up to this size are looked at as a whole.
const FEW_NODES: usize = 100;

/// What became of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It goes there.
    Node(String),
    /// It fits nowhere.
    None(Failure),
}

/// Why a pod fits nowhere.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Failure {
    /// `0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.`
    pub(super) message: String,
    /// Nodes where ending other pods might help.
    pub(super) hopeful: Vec<String>,
    pub(super) nodes: usize,
}

/// What one decision leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Where it begins to look, so that all nodes of a large cluster get their turn.
    begin: usize,
    kinds: Kinds,
}

/// Decides where a pod goes, `company` being what selects those of the same service or controller; of equally good nodes the one with the fewest pods, then the first by name.
pub(super) fn decide(
    pod: &Pod,
    needs: Result<&[Need], &str>,
    company: Option<&LabelSelector>,
    snapshot: &Snapshot,
    packing: Packing,
    turn: &mut Turn,
) -> Decision {
    let nodes = snapshot.nodes.len();
    let (Some(spec), true) = (&pod.spec, nodes > 0) else {
        let message = "no nodes available to schedule pods".to_owned();
        return Decision::None(Failure { message, ..Failure::default() });
    };
    let needs = match needs {
        Ok(needs) => needs,
        Err(reason) => {
            let message = format!("0/{nodes} nodes are available: {reason}.");
            return Decision::None(Failure { message, hopeful: Vec::new(), nodes });
        }
    };
    let request = Request::new(pod, spec, needs, company, snapshot);
    if let Some(node) = nominated(&request, snapshot) {
        return Decision::Node(node);
    }
    if let Some(node) = turn.kinds.next(&request) {
        return Decision::Node(node);
    }
    let (feasible, refusals) = sift(&request, snapshot, turn);
    let totals = score::totals(&request, &feasible, packing);
    let all = feasible.len() + refusals.len() == nodes;
    turn.kinds.remember(Alike::of(&request, &feasible, &totals, packing, all));
    let best = feasible.iter().zip(totals).min_by_key(|(node, total)| (-total, node.pods.len(), &node.name));
    match best {
        Some((node, _)) => Decision::Node(node.name.clone()),
        None => Decision::None(failure(nodes, refusals)),
    }
}

/// Room was made for the pod on a node: it goes there if it fits there now.
fn nominated(request: &Request<'_>, snapshot: &Snapshot) -> Option<String> {
    let name = request.pod.status.as_ref()?.nominated_node_name.as_deref()?;
    let node = snapshot.nodes.get(name)?;
    refusal(request, node, snapshot).is_none().then(|| name.to_owned())
}

/// Why a pod cannot be on a node, counting those for which room is kept there.
pub(super) fn refusal(request: &Request<'_>, node: &NodeState, snapshot: &Snapshot) -> Option<Refusal> {
    let refused = filter::refusal(request, node);
    if refused.is_some() || !snapshot.has_nominated() {
        return refused;
    }
    let mut crowded: Option<NodeState> = None;
    for (key, placed) in snapshot.nominated_on(&node.name) {
        let before = placed.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0) >= request.priority;
        if before && *key != request.key {
            crowded.get_or_insert_with(|| node.clone()).place(key.clone(), placed.clone());
        }
    }
    filter::refusal(request, &crowded?)
}

type Sifted<'a> = (Vec<&'a NodeState>, Vec<(&'a NodeState, Refusal)>);

/// Nodes where the pod can run (enough to choose from, in a large cluster), and why it cannot on others.
fn sift<'a>(request: &Request<'_>, snapshot: &'a Snapshot, turn: &mut Turn) -> Sifted<'a> {
    let nodes: Vec<&NodeState> = match pods::node_of(request.pod) {
        Some(name) => snapshot.nodes.get(name).into_iter().collect(),
        None => snapshot.nodes.values().collect(),
    };
    let enough = enough(nodes.len());
    let (mut feasible, mut refusals, mut seen) = (Vec::with_capacity(enough), Vec::new(), 0);
    let begin = turn.begin % nodes.len().max(1);
    for node in nodes[begin..].iter().chain(&nodes[..begin]) {
        if feasible.len() >= enough {
            break;
        }
        seen += 1;
        match refusal(request, node, snapshot) {
            None => feasible.push(*node),
            Some(refusal) => refusals.push((*node, refusal)),
        }
    }
    turn.begin = begin + seen;
    (feasible, refusals)
}

/// How many nodes are enough to choose from: all of a hundred, down to a twentieth of a huge cluster.
fn enough(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    if nodes <= FEW_NODES { nodes } else { (nodes * percent / 100).max(FEW_NODES) }
}

/// `0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.`
fn failure(nodes: usize, refusals: Vec<(&NodeState, Refusal)>) -> Failure {
    let mut counts: BTreeMap<Cow<'static, str>, usize> = BTreeMap::new();
    let mut hopeful = Vec::new();
    for (node, refusal) in refusals {
        refusal.reasons.into_iter().for_each(|reason| *counts.entry(reason).or_insert(0) += 1);
        if refusal.may_help {
            hopeful.push(node.name.clone());
        }
    }
    let mut counted: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    Failure { message: format!("0/{nodes} nodes are available: {}.", counted.join(", ")), hopeful, nodes }
}

#[cfg(test)]
mod tests;
