//! Which nodes a daemon's pod belongs on: those it names, whose labels match and whose taints it tolerates, however
//! full they are.

use super::filter::affinity;
use super::snapshot::NodeState;
use crate::controllers::node_lifecycle::tolerates;
use crate::controllers::pods;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::sync::Arc;

/// How a node and a daemon's pod go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// A pod should be started there.
    pub(crate) should_run: bool,
    /// A pod that is there may stay.
    pub(crate) may_stay: bool,
}

/// The fit of every node, by name.
pub(crate) fn fits(pod: &Pod, nodes: Vec<Arc<Node>>) -> Vec<(String, Fit)> {
    let fit = |node: Arc<Node>| {
        let state = NodeState::new(node);
        let named = pods::node_of(pod).is_none_or(|name| name == state.name);
        let placed = named && pod.spec.as_ref().is_some_and(|spec| affinity::matches(spec, &state));
        let may_stay = placed && tolerates_all(pod, &state.node, &["NoExecute"]);
        let should_run = placed && tolerates_all(pod, &state.node, &["NoExecute", "NoSchedule"]);
        (state.name, Fit { should_run, may_stay })
    };
    nodes.into_iter().map(fit).collect()
}

fn tolerates_all(pod: &Pod, node: &Node, effects: &[&str]) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}
