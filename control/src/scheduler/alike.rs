//! Pods that are alike, one after the other: what was found out about the nodes for the first holds for those behind it,
//! but for the nodes that have changed since, each of which is looked at again. A set of a thousand replicas costs a
//! thousand looks at one node, not at all of them.
//!
//! Only where a node's worth does not depend on others: nobody is to be near or away from anybody. But for the usual wish
//! about pods of one service or controller, whose crowd is kept up to date.

use super::crowd::{Crowd, Spot};
use super::cycle;
use super::request::Request;
use super::score::{self, Packing};
use super::snapshot::{HostPort, NodeState};
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A share of a sample of nodes may become worse than the best of it was; then another sample is taken.
const SHARE: usize = 8;
/// Kinds that are remembered. Each follows all changes when its next pod comes.
const MOST_KINDS: usize = 16;

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
    company: Option<LabelSelector>,
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
            images: images(request),
            company: request.company.cloned(),
        }
    }
}

/// The best first: worth apart from the crowd, pods on it, name.
type Rank = (Reverse<i64>, usize, String);

/// What is known for pods of a few kinds, that of the last one first: sets of pods come into the queue side by side.
#[derive(Debug, Default)]
pub(super) struct Kinds(VecDeque<Alike>);

impl Kinds {
    /// The best node for a pod that is like one before it.
    pub(super) fn next(&mut self, request: &Request<'_>) -> Option<String> {
        if self.0.is_empty() || !is_plain(request) {
            return None;
        }
        let like = Likeness::of(request);
        let place = self.0.iter().position(|alike| alike.is_for(&like))?;
        let mut alike = self.0.remove(place)?;
        let found = alike.next(request);
        if found.is_some() {
            self.0.push_front(alike);
        }
        found
    }

    /// Remembers what was found out for a pod.
    pub(super) fn remember(&mut self, alike: Option<Alike>) {
        let Some(alike) = alike else { return };
        self.0.push_front(alike);
        self.0.truncate(MOST_KINDS);
    }
}

/// What is known of the nodes for pods of one kind.
#[derive(Debug)]
pub(super) struct Alike {
    like: Likeness,
    packing: Packing,
    /// Of the snapshot: how much of its history is taken into account.
    epoch: u64,
    seen: u64,
    crowd: Option<Crowd>,
    /// Nodes that are as crowded as each other, the best first.
    ranked: BTreeMap<Spot, BTreeSet<Rank>>,
    ranks: HashMap<String, (Spot, Rank)>,
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
        packing: Packing,
        all: bool,
    ) -> Option<Self> {
        let snapshot = request.snapshot;
        if !is_plain(request) || nodes.iter().any(|node| is_avoided(node)) {
            return None;
        }
        let left = if all { usize::MAX } else { nodes.len() / SHARE };
        let mut alike = Self {
            like: Likeness::of(request),
            packing,
            epoch: snapshot.epoch(),
            seen: snapshot.changes(),
            crowd: Crowd::of(request),
            ranked: BTreeMap::new(),
            ranks: HashMap::new(),
            best: totals.iter().copied().max()?,
            left,
        };
        let worths = score::apart_from_spread(request, nodes, packing);
        nodes.iter().zip(worths).for_each(|(node, worth)| alike.set(node, worth));
        Some(alike)
    }

    /// Whether a pod is like those this is about.
    fn is_for(&self, like: &Likeness) -> bool {
        self.like == *like
    }

    /// The best node for another pod that is like the one before.
    fn next(&mut self, request: &Request<'_>) -> Option<String> {
        let snapshot = request.snapshot;
        if self.epoch != snapshot.epoch() {
            return None;
        }
        let changed: BTreeSet<&String> = snapshot.changed_since(self.seen)?.iter().collect();
        if changed.len() > snapshot.nodes.len() / 2 {
            return None;
        }
        for name in changed {
            let node = snapshot.nodes.get(name);
            if node.is_some_and(is_avoided) {
                return None;
            }
            self.look(request, name, node)?;
        }
        self.seen = snapshot.changes();
        let (worth, name) = self.first()?;
        if worth < self.best {
            self.left = self.left.checked_sub(1)?;
        }
        Some(name)
    }

    /// A node has changed.
    fn look(&mut self, request: &Request<'_>, name: &str, node: Option<&NodeState>) -> Option<()> {
        if let Some(crowd) = &mut self.crowd {
            crowd.look(request, name, node);
        }
        match node.filter(|node| cycle::refusal(request, node, request.snapshot).is_none()) {
            Some(node) => {
                let worth = score::apart_from_spread(request, &[node], self.packing);
                self.set(node, worth.first().copied()?);
            }
            None => self.forget(name),
        }
        Some(())
    }

    /// The best node and its worth.
    fn first(&self) -> Option<(i64, String)> {
        let spots: Vec<&Spot> = self.ranked.keys().collect();
        let scores = match &self.crowd {
            Some(crowd) => crowd.scores(&spots, self.ranks.len()),
            None => vec![0; spots.len()],
        };
        let firsts = self.ranked.values().zip(scores).filter_map(|(ranks, score)| {
            let (Reverse(worth), pods, name) = ranks.first()?;
            Some((Reverse(worth + score * score::WEIGHT_OF_SPREAD), pods, name))
        });
        firsts.min().map(|(Reverse(worth), _, name)| (worth, name.clone()))
    }

    fn set(&mut self, node: &NodeState, worth: i64) {
        self.forget(&node.name);
        let spot = self.crowd.as_ref().map(|crowd| crowd.spot(node)).unwrap_or_default();
        let rank = (Reverse(worth), node.pods.len(), node.name.clone());
        self.ranks.insert(node.name.clone(), (spot.clone(), rank.clone()));
        self.ranked.entry(spot).or_default().insert(rank);
    }

    fn forget(&mut self, name: &str) {
        let Some((spot, rank)) = self.ranks.remove(name) else { return };
        let Some(ranked) = self.ranked.get_mut(&spot) else { return };
        ranked.remove(&rank);
        if ranked.is_empty() {
            self.ranked.remove(&spot);
        }
    }
}

fn images(request: &Request<'_>) -> Vec<Option<String>> {
    let spec = request.spec;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.map(|container| container.image.clone()).collect()
}

/// Whether each node can be judged for itself.
fn is_plain(request: &Request<'_>) -> bool {
    let node = request.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let wishes = node.is_some_and(|node| node.preferred_during_scheduling_ignored_during_execution.is_some());
    !wishes
        && !request.snapshot.has_nominated()
        && request.needs.is_empty()
        && request.spec.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty)
        && request.neighbours.are_nobody()
}

/// Whether a taint makes a node worse than others.
fn is_avoided(node: &NodeState) -> bool {
    let mut taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.effect == "PreferNoSchedule")
}
