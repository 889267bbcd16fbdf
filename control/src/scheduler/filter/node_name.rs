//! NodeName: a pod that names its node runs nowhere else.

use super::Reasons;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// Rules out every other node.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    match crate::controllers::pods::node_of(pod) {
        Some(name) if name != node.name() => vec!["node(s) didn't match the requested node name".into()],
        _ => Reasons::new(),
    }
}
