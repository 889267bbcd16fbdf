//! NodeAffinity: `nodeSelector` and the required terms of node affinity.

use super::Reasons;
use crate::scheduler::node_selector;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// Rules out nodes whose labels or name do not match.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    if selected(pod, node) && required(pod, node) {
        return Reasons::new();
    }
    vec!["node(s) didn't match Pod's node affinity/selector".into()]
}

fn selected(pod: &Pod, node: &NodeState) -> bool {
    let mut selector = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    selector.all(|(key, value)| node.node.labels().get(key) == Some(value))
}

fn required(pod: &Pod, node: &NodeState) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
    {
        Some(selector) => node_selector::matches(&selector.node_selector_terms, &node.node),
        None => true,
    }
}
