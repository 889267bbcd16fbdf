//! Preemption: a pod that fits nowhere may take the place of others of lower priority.
//!
//! On each node that could help, all of lower priority are taken away, and as many as possible put back, those of
//! disruption budgets first. Of all nodes the one is chosen where least is lost.

use super::cycle::Failure;
use super::filter;
use super::request::Request;
use super::snapshot::{NodeState, Placed, Snapshot};
use super::volumes::Need;
use crate::controllers::disruption;
use crate::controllers::informer::Key;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::cmp::Reverse;
use std::sync::Arc;

/// Most nodes that are tried for one pod.
const MOST_TRIED: usize = 100;

/// What can be done for a pod that fits nowhere.
#[derive(Debug)]
pub(super) enum Outcome {
    /// These are ended, and the pod goes to this node.
    Victims { node: String, pods: Vec<Arc<Pod>> },
    /// Nothing; the message says why.
    None(String),
}

/// A node and who would have to go there.
struct Candidate {
    node: String,
    /// Most important first.
    victims: Vec<(Key, Arc<Placed>)>,
    broken_budgets: usize,
}

/// Looks for the node where the least is lost.
pub(super) fn find(
    pod: &Pod,
    needs: &[Need],
    snapshot: &Snapshot,
    failure: &Failure,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Outcome {
    let Some(spec) = &pod.spec else { return Outcome::None(String::new()) };
    let request = Request::new(pod, spec, needs, None, snapshot);
    if spec.preemption_policy.as_deref() == Some("Never") {
        return Outcome::None("preemption: not eligible due to preemptionPolicy=Never.".to_owned());
    }
    if is_under_way(&request, snapshot) {
        let message = "preemption: not eligible due to a terminating pod on the nominated node.";
        return Outcome::None(message.to_owned());
    }
    let hopeful = failure.hopeful.iter().filter_map(|name| snapshot.nodes.get(name));
    let candidates = hopeful.filter_map(|node| candidate(&request, node, budgets)).take(MOST_TRIED);
    match candidates.min_by_key(Candidate::cost) {
        Some(best) => {
            let pods = best.victims.into_iter().map(|(_, placed)| placed.pod.clone()).collect();
            Outcome::Victims { node: best.node, pods }
        }
        None => Outcome::None(message(failure)),
    }
}

/// Pods are ending already on the node that was chosen before.
fn is_under_way(request: &Request<'_>, snapshot: &Snapshot) -> bool {
    let nominated = request.pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let node = nominated.and_then(|name| snapshot.nodes.get(name));
    node.is_some_and(|node| {
        let ending = |placed: &Arc<Placed>| placed.pod.metadata.deletion_timestamp.is_some();
        node.pods.values().any(|placed| ending(placed) && priority(placed) < request.priority)
    })
}

fn candidate(
    request: &Request<'_>,
    node: &NodeState,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Option<Candidate> {
    let mut state = node.clone();
    let lower: Vec<(Key, Arc<Placed>)> = node
        .pods
        .iter()
        .filter(|(_, placed)| priority(placed) < request.priority)
        .map(|(key, placed)| (key.clone(), placed.clone()))
        .collect();
    if lower.is_empty() {
        return None;
    }
    lower.iter().for_each(|(key, _)| state.remove(key));
    fits(request, &state).then_some(())?;
    let mut victims = Vec::new();
    let mut broken_budgets = 0;
    for (breaks, (key, placed)) in in_order_of_return(lower, budgets) {
        state.place(key.clone(), placed.clone());
        if !fits(request, &state) {
            state.remove(&key);
            victims.push((key, placed));
            broken_budgets += usize::from(breaks);
        }
    }
    victims.sort_by_key(|(_, placed)| importance(placed));
    Some(Candidate { node: node.name.clone(), victims, broken_budgets })
}

/// Whether the pod fits on the node as it would be then.
fn fits(request: &Request<'_>, node: &NodeState) -> bool {
    filter::refusal(&request.with(node), node).is_none()
}

/// Those whose end would break a budget come back first, then the important ones.
fn in_order_of_return(
    mut lower: Vec<(Key, Arc<Placed>)>,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Vec<(bool, (Key, Arc<Placed>))> {
    lower.sort_by_key(|(_, placed)| importance(placed));
    let mut left: Vec<i32> = budgets
        .iter()
        .map(|one| one.status.as_ref().map_or(0, |status| status.disruptions_allowed))
        .collect();
    let mut marked: Vec<(bool, (Key, Arc<Placed>))> = lower
        .into_iter()
        .map(|one| {
            let mut breaks = false;
            for (budget, left) in budgets.iter().zip(&mut left) {
                let same = budget.metadata.namespace == one.1.pod.metadata.namespace;
                if same && disruption::selects(budget, &one.1.pod) {
                    *left -= 1;
                    breaks |= *left < 0;
                }
            }
            (breaks, one)
        })
        .collect();
    marked.sort_by_key(|(breaks, _)| !breaks);
    marked
}

fn priority(placed: &Placed) -> i32 {
    placed.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn started(placed: &Placed) -> Option<Time> {
    let status = placed.pod.status.as_ref();
    status.and_then(|status| status.start_time.clone()).or(placed.pod.metadata.creation_timestamp.clone())
}

/// The highest priority first, then the longest running.
fn importance(placed: &Placed) -> (Reverse<i32>, Option<Time>) {
    (Reverse(priority(placed)), started(placed))
}

impl Candidate {
    /// Fewest broken budgets, least important most important victim, least priority in sum, fewest victims, and of
    /// those the one where the most important has run the shortest.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<Option<Time>>) {
        let first = self.victims.first().map(|(_, placed)| placed);
        let sum: i64 = self
            .victims
            .iter()
            .map(|(_, placed)| i64::from(priority(placed)).saturating_add(i64::from(i32::MAX) + 1))
            .sum();
        (
            self.broken_budgets,
            first.map_or(i32::MIN, |placed| priority(placed)),
            sum,
            self.victims.len(),
            Reverse(first.and_then(|placed| started(placed))),
        )
    }
}

/// `preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is ...`
fn message(failure: &Failure) -> String {
    let (nodes, hopeful) = (failure.nodes, failure.hopeful.len());
    let mut reasons = Vec::new();
    if hopeful > 0 {
        reasons.push(format!("{hopeful} No preemption victims found for incoming pod"));
    }
    if nodes > hopeful {
        reasons.push(format!("{} Preemption is not helpful for scheduling", nodes - hopeful));
    }
    reasons.sort();
    format!("preemption: 0/{nodes} nodes are available: {}.", reasons.join(", "))
}

#[cfg(test)]
mod tests;
