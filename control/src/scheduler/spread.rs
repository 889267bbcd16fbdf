//! Topology spread: how evenly pods of one kind lie over the zones that a node label draws.

use super::filter::{affinity, taints};
use super::neighbours::add_keys;
use super::request;
use super::snapshot::{NodeState, Snapshot};
use crate::controllers::ownership;
use k8s_openapi::api::core::v1::{Pod, PodSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use std::collections::BTreeMap;

/// One constraint, counted.
#[derive(Debug)]
pub(super) struct Constraint {
    pub(super) key: String,
    pub(super) most_skew: i64,
    least_domains: usize,
    pub(super) selector: Option<LabelSelector>,
    honors_affinity: bool,
    honors_taints: bool,
    /// Whether the pod counts among those it is spread with.
    counts_itself: bool,
    /// Matching pods by zone.
    zones: BTreeMap<String, i64>,
}

/// The constraints of a pod that must hold. Those that should are in [`super::crowding`].
#[derive(Debug, Default)]
pub(super) struct Spread {
    hard: Vec<Constraint>,
}

impl Spread {
    /// Counts the pods that matter.
    pub(super) fn new(pod: &Pod, spec: &PodSpec, snapshot: &Snapshot, changed: Option<&NodeState>) -> Self {
        let all = spec.topology_spread_constraints.iter().flatten();
        let mut hard: Vec<Constraint> = all
            .filter(|constraint| constraint.when_unsatisfiable != "ScheduleAnyway")
            .map(|constraint| Constraint::new(pod, constraint))
            .collect();
        if !hard.is_empty() {
            count(pod, spec, &mut hard, request::nodes(snapshot, changed));
        }
        Self { hard }
    }

    /// Why a node will not do, and whether ending other pods could help.
    pub(super) fn refusal(&self, node: &NodeState) -> Option<(&'static str, bool)> {
        let labels = node.node.labels();
        for constraint in &self.hard {
            let Some(zone) = labels.get(&constraint.key) else {
                return Some((
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                    false,
                ));
            };
            let here = constraint.zones.get(zone).copied().unwrap_or(0) + i64::from(constraint.counts_itself);
            if here - constraint.least() > constraint.most_skew {
                return Some(("node(s) didn't match pod topology spread constraints", true));
            }
        }
        None
    }
}

impl Constraint {
    /// As the pod has it, not counted yet.
    pub(super) fn new(pod: &Pod, constraint: &TopologySpreadConstraint) -> Self {
        let mut selector = constraint.label_selector.clone();
        add_keys(pod, &mut selector, constraint.match_label_keys.as_deref(), "In");
        let honors =
            |policy: &Option<String>, default| policy.as_ref().map_or(default, |policy| policy == "Honor");
        let itself = selector.as_ref().is_some_and(|it| ownership::selects(it, pod.metadata.labels.as_ref()));
        Self {
            key: constraint.topology_key.clone(),
            most_skew: constraint.max_skew.into(),
            least_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            honors_affinity: honors(&constraint.node_affinity_policy, true),
            honors_taints: honors(&constraint.node_taints_policy, false),
            counts_itself: itself,
            selector,
            zones: BTreeMap::new(),
        }
    }

    /// One that no pod names, about the pods of a service or a controller.
    pub(super) fn usual(key: &str, most_skew: i64, selector: &LabelSelector) -> Self {
        Self {
            key: key.to_owned(),
            most_skew,
            least_domains: 1,
            honors_affinity: true,
            honors_taints: false,
            counts_itself: true,
            selector: Some(selector.clone()),
            zones: BTreeMap::new(),
        }
    }

    /// Pods in the emptiest zone; nothing while there are fewer zones than there should be.
    fn least(&self) -> i64 {
        if self.zones.len() < self.least_domains {
            0
        } else {
            self.zones.values().copied().min().unwrap_or(0)
        }
    }

    /// Whether the pods of a node count.
    pub(super) fn includes(&self, spec: &PodSpec, node: &NodeState) -> bool {
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        (!self.honors_affinity || affinity::matches(spec, node))
            && (!self.honors_taints || taints::untolerated(tolerations, node).is_none())
    }
}

fn count<'a>(
    pod: &Pod,
    spec: &PodSpec,
    constraints: &mut [Constraint],
    nodes: impl Iterator<Item = &'a NodeState>,
) {
    let keys: Vec<String> = constraints.iter().map(|constraint| constraint.key.clone()).collect();
    for node in nodes {
        let labels = node.node.labels();
        if !keys.iter().all(|key| labels.contains_key(key)) {
            continue;
        }
        for constraint in constraints.iter_mut() {
            if !constraint.includes(spec, node) {
                continue;
            }
            let Some(zone) = labels.get(&constraint.key) else { continue };
            let matching = match &constraint.selector {
                Some(selector) => matching(pod, selector, node),
                None => 0,
            };
            *constraint.zones.entry(zone.clone()).or_insert(0) += matching;
        }
    }
}

/// Living pods of the same namespace on a node that a selector selects.
pub(super) fn matching(pod: &Pod, selector: &LabelSelector, node: &NodeState) -> i64 {
    let counts = |other: &Pod| {
        other.metadata.deletion_timestamp.is_none()
            && other.metadata.namespace == pod.metadata.namespace
            && ownership::selects(selector, other.metadata.labels.as_ref())
    };
    i64::try_from(node.pods.values().filter(|placed| counts(&placed.pod)).count()).unwrap_or(i64::MAX)
}
