//! TaintToleration: NoSchedule and NoExecute taints keep out pods that do not tolerate them.

use super::Reasons;
use crate::controllers::node_lifecycle::tolerates;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// Rules out tainted nodes, naming the first taint that is not tolerated.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut hard = taints.filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute");
    let untolerated = hard.find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    untolerated.map_or_else(Reasons::new, |taint| {
        vec![format!(
            "node(s) had untolerated taint {{{}: {}}}",
            taint.key,
            taint.value.as_deref().unwrap_or_default()
        )]
    })
}
