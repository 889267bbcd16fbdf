//! The nodes as one decision sees them: what each has, and what is taken.

use super::requests::{self, Resources};
use crate::controllers::informer::Key;
use crate::controllers::pods;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// One node.
pub(super) struct NodeState {
    pub(super) node: Arc<Node>,
    pub(super) allocatable: Resources,
    pub(super) requested: Resources,
    /// With assumptions for containers that ask for nothing.
    pub(super) scored: Resources,
    pub(super) pods: Vec<Arc<Pod>>,
    /// Host ports in use: (address, protocol, port).
    pub(super) ports: HashSet<(String, String, i32)>,
}

impl NodeState {
    /// Name of the node.
    pub(super) fn name(&self) -> String {
        self.node.name_any()
    }
}

/// All nodes, by name.
pub(super) struct Snapshot {
    pub(super) nodes: BTreeMap<String, NodeState>,
}

impl Snapshot {
    /// Puts pods on nodes: those that are bound, and those that are assumed to be.
    pub(super) fn new(
        nodes: Vec<Arc<Node>>,
        pods: Vec<Arc<Pod>>,
        assumed: impl Iterator<Item = (String, Arc<Pod>)>,
    ) -> Self {
        let state = |node: Arc<Node>| {
            let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
            let allocatable = requests::amounts(allocatable);
            let (requested, scored) = (Resources::new(), Resources::new());
            (
                node.name_any(),
                NodeState { node, allocatable, requested, scored, pods: Vec::new(), ports: HashSet::new() },
            )
        };
        let mut snapshot = Self { nodes: nodes.into_iter().map(state).collect() };
        let bound = pods.into_iter().filter_map(|pod| Some((pods::node_of(&pod)?.to_owned(), pod)));
        let placed: HashMap<Key, (String, Arc<Pod>)> =
            assumed.chain(bound).map(|(node, pod)| (Key::of(&*pod), (node, pod))).collect();
        placed.into_values().for_each(|(node, pod)| snapshot.place(&node, pod));
        snapshot
    }

    fn place(&mut self, node: &str, pod: Arc<Pod>) {
        let Some(state) = self.nodes.get_mut(node).filter(|_| !requests::is_finished(&pod)) else { return };
        requests::add(&mut state.requested, &requests::of_pod(&pod));
        requests::add(&mut state.scored, &requests::for_scoring(&pod));
        state.ports.extend(host_ports(&pod));
        state.pods.push(pod);
    }
}

/// The host ports a pod wants.
pub(super) fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address =
                port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
        })
        .collect()
}
