//! TaintToleration: NoSchedule and NoExecute taints keep out pods that do not tolerate them.

use super::Refusal;
use crate::controllers::node_lifecycle::tolerates;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Rules out tainted nodes, naming the first taint that is not tolerated.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    let taint = untolerated(request.tolerations, node)?;
    let value = taint.value.as_deref().unwrap_or_default();
    Some(Refusal::fixed(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
}

/// The first taint of a node that keeps out a pod with these tolerations.
pub(in crate::scheduler) fn untolerated<'a>(
    tolerations: &[Toleration],
    node: &'a NodeState,
) -> Option<&'a Taint> {
    let taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut hard = taints.filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute");
    hard.find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}
