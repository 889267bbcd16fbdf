//! Filters: each says whether a pod can run on a node, and if not, why, in Kubernetes' words.

mod affinity;
mod node_name;
mod ports;
mod resources;
mod taints;
mod unschedulable;

use super::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// Why a node was ruled out (one filter may have several reasons).
pub(super) type Reasons = Vec<String>;

type Filter = fn(&Pod, &NodeState) -> Reasons;

/// In Kubernetes' order; the first that rules a node out names the reason.
const FILTERS: [Filter; 6] = [
    unschedulable::filter,
    node_name::filter,
    taints::filter,
    affinity::filter,
    ports::filter,
    resources::filter,
];

/// Empty when the pod can run there.
pub(super) fn reasons(pod: &Pod, node: &NodeState) -> Reasons {
    FILTERS.iter().map(|filter| filter(pod, node)).find(|reasons| !reasons.is_empty()).unwrap_or_default()
}

/// Whether the pod names this node and its labels suit, whatever else speaks against it.
pub(super) fn is_placed(pod: &Pod, node: &NodeState) -> bool {
    [node_name::filter, affinity::filter].iter().all(|filter: &Filter| filter(pod, node).is_empty())
}
