//! NodeUnschedulable: a cordoned node takes only pods that tolerate that.

use super::Reasons;
use crate::controllers::node_lifecycle::tolerates;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::{Pod, Taint};

/// Rules out cordoned nodes.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let mut tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    if cordoned && !tolerations.any(|toleration| tolerates(toleration, &taint)) {
        return vec!["node(s) were unschedulable".into()];
    }
    Reasons::new()
}
