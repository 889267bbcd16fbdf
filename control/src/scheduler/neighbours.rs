//! Pod affinity and anti-affinity: which pods a pod wants near, or away, in zones that a node label draws; and which
//! pods that are there already want it away.

use super::request;
use super::snapshot::{NodeState, Snapshot};
use crate::controllers::ownership;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};

/// Weight of the wish of others to have this pod near, where they require it.
const SYMMETRY: i64 = 1;

/// Values of topology labels, by label.
type Zones = BTreeMap<String, BTreeSet<String>>;

/// One required or preferred neighbour.
#[derive(Debug)]
struct Term {
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<LabelSelector>,
    key: String,
}

impl Term {
    fn of(owner: &Pod, term: &PodAffinityTerm) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.extend(owner.namespace());
        }
        let mut selector = term.label_selector.clone();
        add_keys(owner, &mut selector, term.match_label_keys.as_deref(), "In");
        add_keys(owner, &mut selector, term.mismatch_label_keys.as_deref(), "NotIn");
        let namespace_selector = term.namespace_selector.clone();
        Self { selector, namespaces, namespace_selector, key: term.topology_key.clone() }
    }

    fn matches(&self, pod: &Pod, snapshot: &Snapshot) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let chosen = || {
            let selector = self.namespace_selector.as_ref();
            selector.is_some_and(|selector| ownership::selects(selector, snapshot.namespaces.get(namespace)))
        };
        let selected = |selector: &LabelSelector| ownership::selects(selector, pod.metadata.labels.as_ref());
        (self.namespaces.contains(namespace) || chosen()) && self.selector.as_ref().is_some_and(selected)
    }
}

/// Label keys whose values are the owner's own.
pub(super) fn add_keys(
    owner: &Pod,
    selector: &mut Option<LabelSelector>,
    keys: Option<&[String]>,
    operator: &str,
) {
    let Some(selector) = selector else { return };
    for key in keys.unwrap_or_default() {
        if let Some(value) = owner.labels().get(key) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    }
}

fn required(pod: &Pod, anti: bool) -> Vec<Term> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms = if anti {
        affinity.and_then(|affinity| {
            affinity
                .pod_anti_affinity
                .as_ref()?
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        })
    } else {
        affinity.and_then(|affinity| {
            affinity.pod_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_deref()
        })
    };
    terms.unwrap_or_default().iter().map(|term| Term::of(pod, term)).collect()
}

/// Preferred terms; those of anti-affinity weigh against.
fn preferred(pod: &Pod) -> Vec<(Term, i64)> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let near = affinity.and_then(|affinity| {
        affinity.pod_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_deref()
    });
    let away = affinity.and_then(|affinity| {
        affinity.pod_anti_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_deref()
    });
    let signed = [(near, 1), (away, -1)];
    let terms = signed
        .into_iter()
        .flat_map(|(terms, sign)| terms.unwrap_or_default().iter().map(move |term| (term, sign)));
    terms
        .map(|(term, sign)| (Term::of(pod, &term.pod_affinity_term), sign * i64::from(term.weight)))
        .collect()
}

/// What a pod's neighbours say about every node.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    near: Vec<Term>,
    /// Zones with a pod that matches all of `near`.
    near_zones: Zones,
    /// The pod matches its own terms, and nobody else does: it may be the first.
    first: bool,
    away: Vec<Term>,
    away_zones: Zones,
    /// Zones that pods in them want this pod to stay out of.
    forbidden: Zones,
    /// Points by zone.
    points: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Neighbours {
    /// Whether nobody wants anybody near or away.
    pub(super) fn are_nobody(&self) -> bool {
        self.near.is_empty() && self.away.is_empty() && self.forbidden.is_empty() && self.points.is_empty()
    }

    /// Looks around for one pod; all pods only where it asks about them, else only those that ask about others.
    pub(super) fn new(pod: &Pod, snapshot: &Snapshot, changed: Option<&NodeState>) -> Self {
        let mut all = Self { near: required(pod, false), away: required(pod, true), ..Self::default() };
        let wishes = preferred(pod);
        if !snapshot.sociable.is_empty() {
            all.listen(pod, snapshot, changed);
        }
        if !all.near.is_empty() || !all.away.is_empty() || !wishes.is_empty() {
            for node in request::nodes(snapshot, changed) {
                node.pods.values().for_each(|placed| all.look(&placed.pod, node, &wishes, snapshot));
            }
        }
        all.first = all.near_zones.is_empty() && all.near.iter().all(|term| term.matches(pod, snapshot));
        all
    }

    /// What pods that are there think of this one.
    fn listen(&mut self, pod: &Pod, snapshot: &Snapshot, changed: Option<&NodeState>) {
        for (key, on) in &snapshot.sociable {
            let node = changed.filter(|changed| changed.name == *on).or_else(|| snapshot.nodes.get(on));
            let Some((node, placed)) = node.and_then(|node| Some((node, node.pods.get(key)?))) else {
                continue;
            };
            for term in required(&placed.pod, true).iter().filter(|term| term.matches(pod, snapshot)) {
                add_zone(&mut self.forbidden, &term.key, node);
            }
            let hard = required(&placed.pod, false).into_iter().map(|term| (term, SYMMETRY));
            for (term, weight) in hard.chain(preferred(&placed.pod)) {
                if term.matches(pod, snapshot) {
                    self.award(&term.key, node, weight);
                }
            }
        }
    }

    /// What this pod thinks of one that is there.
    fn look(&mut self, other: &Pod, node: &NodeState, wishes: &[(Term, i64)], snapshot: &Snapshot) {
        if !self.near.is_empty() && self.near.iter().all(|term| term.matches(other, snapshot)) {
            self.near.iter().for_each(|term| add_zone(&mut self.near_zones, &term.key, node));
        }
        for term in self.away.iter().filter(|term| term.matches(other, snapshot)) {
            add_zone(&mut self.away_zones, &term.key, node);
        }
        for (term, weight) in wishes.iter().filter(|(term, _)| term.matches(other, snapshot)) {
            self.award(&term.key, node, *weight);
        }
    }

    fn award(&mut self, key: &str, node: &NodeState, weight: i64) {
        if let Some(zone) = node.node.labels().get(key) {
            let points = self.points.entry(key.to_owned()).or_default();
            *points.entry(zone.clone()).or_insert(0) += weight;
        }
    }

    /// Why the pod cannot be on a node, and whether ending other pods could help.
    pub(super) fn refusal(&self, node: &NodeState) -> Option<(&'static str, bool)> {
        let labels = node.node.labels();
        let labelled = self.near.iter().all(|term| labels.contains_key(&term.key));
        let near = self.near.iter().all(|term| in_zone(&self.near_zones, &term.key, node));
        if !labelled || !(near || self.first) {
            return Some(("node(s) didn't match pod affinity rules", false));
        }
        if self.away.iter().any(|term| in_zone(&self.away_zones, &term.key, node)) {
            return Some(("node(s) didn't match pod anti-affinity rules", true));
        }
        if self.forbidden.keys().any(|key| in_zone(&self.forbidden, key, node)) {
            return Some(("node(s) didn't satisfy existing pods anti-affinity rules", true));
        }
        None
    }

    /// Whether any node has points.
    pub(super) fn has_points(&self) -> bool {
        !self.points.is_empty()
    }

    /// The points of a node.
    pub(super) fn points(&self, node: &NodeState) -> i64 {
        let labels = node.node.labels();
        let of = |(key, zones): (&String, &BTreeMap<String, i64>)| zones.get(labels.get(key)?).copied();
        self.points.iter().filter_map(of).sum()
    }
}

fn add_zone(zones: &mut Zones, key: &str, node: &NodeState) {
    if let Some(zone) = node.node.labels().get(key) {
        zones.entry(key.to_owned()).or_default().insert(zone.clone());
    }
}

fn in_zone(zones: &Zones, key: &str, node: &NodeState) -> bool {
    let zone = node.node.labels().get(key);
    zone.is_some_and(|zone| zones.get(key).is_some_and(|all| all.contains(zone)))
}
