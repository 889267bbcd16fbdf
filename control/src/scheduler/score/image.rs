//! ImageLocality: nodes that have the pod's images already, weighted by size (23 MB to 1 GB per container).

use super::MOST;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;

const LEAST_BYTES: i64 = 23 << 20;
const MOST_BYTES: i64 = 1000 << 20;

/// The bytes that need no pull.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let containers = request.spec.containers.as_slice();
    let most = MOST_BYTES * i64::try_from(containers.len()).unwrap_or(1).max(1);
    let present = |node: &&NodeState| {
        let wanted = containers.iter().filter_map(|container| container.image.as_deref());
        wanted.map(|image| bytes(node, image)).sum::<i64>()
    };
    let holders = |image: i64| image.clamp(LEAST_BYTES, most);
    nodes.iter().map(|node| (holders(present(node)) - LEAST_BYTES) * MOST / (most - LEAST_BYTES)).collect()
}

fn bytes(node: &NodeState, image: &str) -> i64 {
    let images = node.node.status.iter().flat_map(|status| status.images.iter().flatten());
    let named = |names: &Option<Vec<String>>| {
        names.iter().flatten().any(|name| name == image || *name == format!("{image}:latest"))
    };
    images.filter(|one| named(&one.names)).filter_map(|one| one.size_bytes).max().unwrap_or(0)
}
