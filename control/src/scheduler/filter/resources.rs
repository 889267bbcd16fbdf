//! NodeResourcesFit: what the pod asks for must be free, resource by resource.

use super::Refusal;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;
use std::borrow::Cow;

/// Rules out nodes where something is short: one reason per resource.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    if node.pods.len() >= node.most_pods {
        reasons.push("Too many pods".into());
    }
    for (name, wanted, allocatable, taken) in request.requested.against(&node.allocatable, &node.requested) {
        if wanted > allocatable - taken {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    if reasons.is_empty() { None } else { Some(Refusal { reasons, may_help: true }) }
}
