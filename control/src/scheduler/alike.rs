//! Pods that are alike, one after the other: what was found out about the nodes for the first holds for those behind it,
//! but for the nodes that have changed since, each of which is looked at again. A set of a thousand replicas costs a
//! thousand looks at one node, not at all of them.
//!
//! Only where a node's worth does not depend on others: nobody is to be near or away from anybody.

use super::cycle;
use super::request::Request;
use super::score::{self, Packing};
use super::snapshot::{HostPort, NodeState, Snapshot};
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A share of a sample of nodes may become worse than the best of it was; then another sample is taken.
const SHARE: usize = 8;

/// All of a pod that decides where it goes.
#[derive(Debug, PartialEq)]
struct Likeness {
    namespace: String,
    labels: BTreeMap<String, String>,
    selector: BTreeMap<String, String>,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
    amounts: [super::amounts::Amounts; 2],
    ports: Vec<HostPort>,
    images: Vec<Option<String>>,
}

impl Likeness {
    fn of(request: &Request<'_>) -> Self {
        Self {
            namespace: request.key.namespace.clone(),
            labels: request.pod.metadata.labels.clone().unwrap_or_default(),
            selector: request.spec.node_selector.clone().unwrap_or_default(),
            affinity: request.spec.affinity.clone(),
            tolerations: request.tolerations.to_vec(),
            amounts: [request.requested.clone(), request.scored.clone()],
            ports: request.ports.clone(),
            images: request.spec.containers.iter().map(|container| container.image.clone()).collect(),
        }
    }
}

/// The best first: worth, pods on it, name.
type Rank = (Reverse<i64>, usize, String);

/// What is known of the nodes for pods of one kind.
#[derive(Debug)]
pub(super) struct Alike {
    like: Likeness,
    packing: Packing,
    /// Of the snapshot: how much of its history is taken into account.
    epoch: u64,
    seen: u64,
    ranked: BTreeSet<Rank>,
    ranks: HashMap<String, Rank>,
    /// Worth of the best node when all were looked at.
    best: i64,
    /// Decisions for a worse node that are left.
    left: usize,
}

impl Alike {
    /// Remembers what was found out for a pod, if that could hold for another; `all`: of every node there is.
    pub(super) fn of(
        request: &Request<'_>,
        nodes: &[&NodeState],
        totals: &[i64],
        (snapshot, packing): (&Snapshot, Packing),
        all: bool,
    ) -> Option<Self> {
        if !is_plain(request, snapshot) || nodes.iter().any(|node| is_avoided(node)) {
            return None;
        }
        let left = if all { usize::MAX } else { nodes.len() / SHARE };
        let mut alike = Self {
            like: Likeness::of(request),
            packing,
            epoch: snapshot.epoch(),
            seen: snapshot.changes(),
            ranked: BTreeSet::new(),
            ranks: HashMap::new(),
            best: totals.iter().copied().max()?,
            left,
        };
        nodes.iter().zip(totals).for_each(|(node, total)| alike.set(node, *total));
        Some(alike)
    }

    /// The best node for another pod, if it is like the one before.
    pub(super) fn next(&mut self, request: &Request<'_>, snapshot: &Snapshot) -> Option<String> {
        let same = self.epoch == snapshot.epoch() && is_plain(request, snapshot);
        if !same || self.like != Likeness::of(request) {
            return None;
        }
        for name in snapshot.changed_since(self.seen)? {
            match snapshot.nodes.get(name) {
                Some(node) if is_avoided(node) => return None,
                Some(node) if cycle::refusal(request, node, snapshot).is_none() => {
                    let total = score::totals(request, &[node], self.packing);
                    self.set(node, total.first().copied()?);
                }
                _ => self.forget(name),
            }
        }
        self.seen = snapshot.changes();
        let (Reverse(worth), _, name) = self.ranked.first()?;
        if *worth < self.best {
            self.left = self.left.checked_sub(1)?;
        }
        Some(name.clone())
    }

    fn set(&mut self, node: &NodeState, total: i64) {
        self.forget(&node.name);
        let rank = (Reverse(total), node.pods.len(), node.name.clone());
        self.ranks.insert(node.name.clone(), rank.clone());
        self.ranked.insert(rank);
    }

    fn forget(&mut self, name: &str) {
        if let Some(rank) = self.ranks.remove(name) {
            self.ranked.remove(&rank);
        }
    }
}

/// Whether each node can be judged for itself.
fn is_plain(request: &Request<'_>, snapshot: &Snapshot) -> bool {
    let node = request.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let wishes = node.is_some_and(|node| node.preferred_during_scheduling_ignored_during_execution.is_some());
    !wishes
        && !snapshot.has_nominated()
        && request.needs.is_empty()
        && request.spec.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty)
        && request.neighbours.are_nobody()
}

/// Whether a taint makes a node worse than others.
fn is_avoided(node: &NodeState) -> bool {
    let mut taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.effect == "PreferNoSchedule")
}
