//! NodeUnschedulable: a cordoned node takes only pods that tolerate that.

use super::Refusal;
use crate::controllers::node_lifecycle::tolerates;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Taint;

/// Rules out cordoned nodes.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    if !cordoned {
        return None;
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let tolerated = request.tolerations.iter().any(|toleration| tolerates(toleration, &taint));
    (!tolerated).then(|| Refusal::fixed("node(s) were unschedulable"))
}
