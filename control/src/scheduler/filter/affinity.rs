//! NodeAffinity: `nodeSelector` and the required terms of node affinity.

use super::Refusal;
use crate::scheduler::node_selector;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::PodSpec;
use kube::ResourceExt;

/// Rules out nodes whose labels or name do not match.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    if matches(request.spec, node) {
        return None;
    }
    Some(Refusal::fixed("node(s) didn't match Pod's node affinity/selector"))
}

/// Whether labels and name are what the pod requires.
pub(in crate::scheduler) fn matches(spec: &PodSpec, node: &NodeState) -> bool {
    let mut selector = spec.node_selector.iter().flatten();
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selector.all(|(key, value)| node.node.labels().get(key) == Some(value))
        && required.is_none_or(|required| node_selector::matches(&required.node_selector_terms, &node.node))
}
