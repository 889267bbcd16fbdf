//! How crowded nodes are with pods like the one that wants a node: what it wishes of topology spread. A pod without
//! constraints of its own has Kubernetes' usual wish where it belongs to a service or a controller: not too many of them
//! on one node, nor in one zone.

use super::request::Request;
use super::snapshot::NodeState;
use super::spread::{Constraint, matching};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use std::collections::HashMap;

pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
/// Of the usual wish: what is tolerated on one node, and in one zone.
pub(super) const SKEW_ON_NODE: i64 = 3;
pub(super) const SKEW_IN_ZONE: i64 = 5;
/// The best a node can be.
const MOST: i64 = 100;

/// What a pod wishes, which no node has to fulfil.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    constraints: Vec<Constraint>,
    /// Nodes without one of the labels are not compared: so it is with constraints that the pod names itself.
    own: bool,
}

/// Matching pods in each domain of one constraint.
struct Domains<'a> {
    pods: HashMap<&'a str, i64>,
    /// Few domains weigh less: with many, one pod more means more.
    weight: f64,
}

impl Wishes {
    /// Those of the pod itself, or the usual one about its `company`.
    pub(super) fn of(pod: &Pod, spec: &PodSpec, company: Option<&LabelSelector>) -> Self {
        let own = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        if own.is_empty() {
            let usual = |company: &LabelSelector| {
                [(HOSTNAME, SKEW_ON_NODE), (ZONE, SKEW_IN_ZONE)]
                    .map(|(key, skew)| Constraint::usual(key, skew, company))
                    .into()
            };
            return Self { constraints: company.map(usual).unwrap_or_default(), own: false };
        }
        let soft = own.iter().filter(|constraint| constraint.when_unsatisfiable == "ScheduleAnyway");
        Self { constraints: soft.map(|constraint| Constraint::new(pod, constraint)).collect(), own: true }
    }

    /// How crowded it is on each node, less is better. Nothing for a node that is not compared.
    pub(super) fn crowding(&self, request: &Request<'_>, nodes: &[&NodeState]) -> Vec<Option<i64>> {
        let domains: Vec<Domains<'_>> =
            self.constraints.iter().map(|one| self.domains(one, request, nodes)).collect();
        let of = |node: &&NodeState| {
            let parts = self.constraints.iter().zip(&domains);
            let parts = parts.filter_map(|(one, domains)| one.crowding(request, node, domains));
            self.compares(node).then(|| parts.sum::<f64>().round() as i64)
        };
        nodes.iter().map(of).collect()
    }

    /// Nothing is wished.
    pub(super) fn is_empty(&self) -> bool {
        self.constraints.is_empty()
    }

    fn compares(&self, node: &NodeState) -> bool {
        let labels = node.node.labels();
        !self.own || self.constraints.iter().all(|one| labels.contains_key(&one.key))
    }

    fn domains<'a>(
        &self,
        constraint: &Constraint,
        request: &Request<'a>,
        nodes: &[&'a NodeState],
    ) -> Domains<'a> {
        let compared = || nodes.iter().filter(|node| self.compares(node));
        if constraint.key == HOSTNAME {
            return Domains { pods: HashMap::new(), weight: weight(compared().count()) };
        }
        let mut pods: HashMap<&str, i64> = compared().map(|node| (constraint.domain(node), 0)).collect();
        let counted = request.snapshot.nodes.values().filter(|node| self.compares(node));
        for node in counted.filter(|node| constraint.includes(request.spec, node)) {
            if let Some(pods) = pods.get_mut(constraint.domain(node)) {
                *pods += constraint.matching(request.pod, node);
            }
        }
        let weight = weight(pods.len());
        Domains { pods, weight }
    }
}

impl Constraint {
    /// Nodes without the label are one domain.
    fn domain<'a>(&self, node: &'a NodeState) -> &'a str {
        node.node.labels().get(&self.key).map(String::as_str).unwrap_or_default()
    }

    fn matching(&self, pod: &Pod, node: &NodeState) -> i64 {
        self.selector.as_ref().map_or(0, |selector| matching(pod, selector, node))
    }

    fn crowding(&self, request: &Request<'_>, node: &NodeState, domains: &Domains<'_>) -> Option<f64> {
        let value = node.node.labels().get(&self.key)?;
        let pods = match self.key.as_str() {
            HOSTNAME => self.matching(request.pod, node),
            _ => domains.pods.get(value.as_str()).copied().unwrap_or(0),
        };
        Some(share(pods, domains.weight, self.most_skew))
    }
}

/// Of so many domains.
pub(super) fn weight(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}

/// What one constraint adds to the crowding of a node.
pub(super) fn share(pods: i64, weight: f64, most_skew: i64) -> f64 {
    pods as f64 * weight + (most_skew - 1) as f64
}

/// Crowding turned around, relative to the most crowded node.
pub(super) fn scores(crowding: &[Option<i64>]) -> Vec<i64> {
    let most = crowding.iter().flatten().copied().max().unwrap_or(0);
    let least = crowding.iter().flatten().copied().min().unwrap_or(0);
    let score = |crowding: &Option<i64>| match crowding {
        None => 0,
        Some(_) if most == 0 => MOST,
        Some(crowding) => MOST * (most + least - crowding) / most,
    };
    crowding.iter().map(score).collect()
}
