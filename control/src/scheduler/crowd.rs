//! Crowding kept up to date: of pods of one service or controller, one after the other, nobody counts the others anew.
//! Only nodes that changed are looked at; how crowded each is follows from its own pods and those of its zone.

use super::crowding::{self, HOSTNAME, SKEW_IN_ZONE, SKEW_ON_NODE, ZONE};
use super::filter::affinity;
use super::request::Request;
use super::snapshot::NodeState;
use super::spread::matching;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use std::collections::{BTreeSet, HashMap};

/// What makes a node as crowded as another.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Pods of the kind on the node, where it says its name.
    here: Option<i64>,
    zone: Option<String>,
}

/// What a node adds to its zone.
#[derive(Debug)]
struct Share {
    pods: i64,
    zone: Option<String>,
}

/// Pods of one kind, by node and by zone.
#[derive(Debug)]
pub(super) struct Crowd {
    company: LabelSelector,
    nodes: HashMap<String, Share>,
    zones: HashMap<Option<String>, i64>,
}

impl Crowd {
    /// Counts once; nothing for a pod that belongs to nobody.
    pub(super) fn of(request: &Request<'_>) -> Option<Self> {
        let company = request.company?.clone();
        let mut crowd = Self { company, nodes: HashMap::new(), zones: HashMap::new() };
        request.snapshot.nodes.iter().for_each(|(name, node)| crowd.look(request, name, Some(node)));
        Some(crowd)
    }

    /// A node changed, or is gone.
    pub(super) fn look(&mut self, request: &Request<'_>, name: &str, node: Option<&NodeState>) {
        if let Some(before) = self.nodes.remove(name) {
            *self.zones.entry(before.zone).or_default() -= before.pods;
        }
        let Some(node) = node else { return };
        let share = Share { pods: matching(request.pod, &self.company, node), zone: zone(node) };
        // Nodes where it may not be say nothing about the zone.
        if affinity::matches(request.spec, node) {
            *self.zones.entry(share.zone.clone()).or_default() += share.pods;
            self.nodes.insert(name.to_owned(), share);
        }
    }

    /// Where a node stands.
    pub(super) fn spot(&self, node: &NodeState) -> Spot {
        let here = self.nodes.get(&node.name).map_or(0, |share| share.pods);
        let named = node.node.labels().contains_key(HOSTNAME);
        Spot { here: named.then_some(here), zone: zone(node) }
    }

    /// How good each of these is, on which so many nodes are.
    pub(super) fn scores(&self, spots: &[&Spot], nodes: usize) -> Vec<i64> {
        let zones: BTreeSet<&Option<String>> = spots.iter().map(|spot| &spot.zone).collect();
        let (on_node, in_zone) = (crowding::weight(nodes), crowding::weight(zones.len()));
        let crowding = |spot: &&Spot| {
            let here = spot.here.map_or(0.0, |pods| crowding::share(pods, on_node, SKEW_ON_NODE));
            let near = spot.zone.as_ref().map_or(0.0, |_| {
                let pods = self.zones.get(&spot.zone).copied().unwrap_or(0);
                crowding::share(pods, in_zone, SKEW_IN_ZONE)
            });
            Some((here + near).round() as i64)
        };
        crowding::scores(&spots.iter().map(crowding).collect::<Vec<_>>())
    }
}

fn zone(node: &NodeState) -> Option<String> {
    node.node.labels().get(ZONE).cloned()
}
