//! NodeResourcesFit: what the pod asks for must be free, resource by resource.

use super::Reasons;
use crate::scheduler::requests;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::Pod;

/// Rules out nodes where something is short: one reason per resource.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    let mut reasons = Reasons::new();
    let most = node.allocatable.get("pods").copied().unwrap_or(0);
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= most {
        reasons.push("Too many pods".into());
    }
    for (name, wanted) in requests::of_pod(pod) {
        let allocatable = node.allocatable.get(&name).copied().unwrap_or(0);
        let taken = node.requested.get(&name).copied().unwrap_or(0);
        if wanted > 0 && wanted > allocatable - taken {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}
