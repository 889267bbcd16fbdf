//! ImageLocality: nodes that have the pod's images already, weighted by size (23 MB to 1 GB per container). An image that
//! only few nodes have counts for less: else all pods of it would go to those.

use super::MOST;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::NodeState;
use std::borrow::Cow;

const LEAST_BYTES: i64 = 23 << 20;
const MOST_BYTES: i64 = 1000 << 20;

/// The bytes that need no pull.
pub(super) fn score(request: &Request<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let spec = request.spec;
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let wanted = containers().filter_map(|container| container.image.as_deref()).map(with_tag);
    let wanted: Vec<(Cow<'_, str>, f64)> = wanted
        .map(|image| (image.clone(), request.snapshot.spread_of(&image)))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    let most = MOST_BYTES * i64::try_from(containers().count()).unwrap_or(1).max(1);
    let present = |node: &&NodeState| -> i64 {
        let sizes = wanted.iter().filter_map(|(image, share)| Some((*node.images.get(&**image)?, share)));
        sizes.map(|(size, share)| (size as f64 * share) as i64).sum()
    };
    let holders = |image: i64| image.clamp(LEAST_BYTES, most);
    nodes.iter().map(|node| (holders(present(node)) - LEAST_BYTES) * MOST / (most - LEAST_BYTES)).collect()
}

/// The name as nodes tell it.
fn with_tag(image: &str) -> Cow<'_, str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') { image.into() } else { format!("{image}:latest").into() }
}
