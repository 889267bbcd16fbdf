//! NodeName: a pod that names its node runs nowhere else.

use super::Refusal;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

/// Rules out every other node.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    match crate::controllers::pods::node_of(request.pod) {
        Some(name) if name != node.name => {
            Some(Refusal::fixed("node(s) didn't match the requested node name"))
        }
        _ => None,
    }
}
