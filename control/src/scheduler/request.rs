//! A pod that wants a node, with everything about it that does not depend on the node read once.

use super::amounts::Amounts;
use super::crowding::Wishes;
use super::filter::restrictions;
use super::neighbours::Neighbours;
use super::requests;
use super::snapshot::{self, HostPort, NodeState, Snapshot};
use super::spread::Spread;
use super::volumes::Need;
use crate::controllers::informer::Key;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// What one decision is about.
pub(super) struct Request<'a> {
    pub(super) pod: &'a Pod,
    pub(super) key: Key,
    pub(super) spec: &'a PodSpec,
    pub(super) priority: i32,
    pub(super) requested: Amounts,
    pub(super) scored: Amounts,
    pub(super) ports: Vec<HostPort>,
    pub(super) tolerations: &'a [Toleration],
    pub(super) needs: &'a [Need],
    /// Another pod has a claim that it wants alone.
    pub(super) is_claimed: bool,
    pub(super) neighbours: Neighbours,
    pub(super) spread: Spread,
    /// Pods of the same service or controller.
    pub(super) company: Option<&'a LabelSelector>,
    pub(super) wishes: Wishes,
    /// The world it is judged in.
    pub(super) snapshot: &'a Snapshot,
}

impl<'a> Request<'a> {
    /// Reads a pod against the world as it is.
    pub(super) fn new(
        pod: &'a Pod,
        spec: &'a PodSpec,
        needs: &'a [Need],
        company: Option<&'a LabelSelector>,
        snapshot: &'a Snapshot,
    ) -> Self {
        Self {
            pod,
            key: Key::of(pod),
            spec,
            priority: spec.priority.unwrap_or(0),
            requested: requests::of_pod(pod),
            scored: requests::for_scoring(pod),
            ports: snapshot::host_ports(pod),
            tolerations: spec.tolerations.as_deref().unwrap_or_default(),
            needs,
            is_claimed: restrictions::is_claimed(pod, needs, snapshot, None),
            neighbours: Neighbours::new(pod, snapshot, None),
            spread: Spread::new(pod, spec, snapshot, None),
            company,
            wishes: Wishes::of(pod, spec, company),
            snapshot,
        }
    }

    /// The same against a world in which one node is different; whether it fits there, not how well.
    pub(super) fn with(&self, changed: &NodeState) -> Self {
        let snapshot = self.snapshot;
        Self {
            pod: self.pod,
            key: self.key.clone(),
            spec: self.spec,
            priority: self.priority,
            requested: self.requested.clone(),
            scored: self.scored.clone(),
            ports: self.ports.clone(),
            tolerations: self.tolerations,
            needs: self.needs,
            is_claimed: restrictions::is_claimed(self.pod, self.needs, snapshot, Some(changed)),
            neighbours: Neighbours::new(self.pod, snapshot, Some(changed)),
            spread: Spread::new(self.pod, self.spec, snapshot, Some(changed)),
            company: self.company,
            wishes: Wishes::default(),
            snapshot,
        }
    }
}

/// All nodes, with `changed` in the place of the one of its name.
pub(super) fn nodes<'a>(
    snapshot: &'a Snapshot,
    changed: Option<&'a NodeState>,
) -> impl Iterator<Item = &'a NodeState> {
    snapshot
        .nodes
        .values()
        .map(move |node| changed.filter(|changed| changed.name == node.name).unwrap_or(node))
}
