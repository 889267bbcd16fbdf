//! The nodes as decisions see them: what each has, and what is taken. Kept up to date change by change, so that a
//! decision never counts pods anew.

use super::amounts::Amounts;
use super::requests;
use crate::controllers::informer::Key;
use crate::controllers::pods;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Changes of single nodes that are remembered.
const MOST_CHANGES: usize = 4096;

/// A host port: address, protocol, port.
pub(super) type HostPort = (String, String, i32);

/// A pod on a node, with what it takes.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) pod: Arc<Pod>,
    requested: Amounts,
    /// With assumptions for containers that ask for nothing.
    scored: Amounts,
    ports: Vec<HostPort>,
}

impl Placed {
    /// Reads what a pod takes.
    pub(super) fn new(pod: Arc<Pod>) -> Self {
        let (requested, scored) = (requests::of_pod(&pod), requests::for_scoring(&pod));
        Self { requested, scored, ports: host_ports(&pod), pod }
    }
}

/// One node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeState {
    pub(super) node: Arc<Node>,
    pub(super) name: String,
    pub(super) allocatable: Amounts,
    pub(super) most_pods: usize,
    /// Images that it has, with their sizes.
    pub(super) images: HashMap<String, i64>,
    pub(super) requested: Amounts,
    pub(super) scored: Amounts,
    pub(super) pods: BTreeMap<Key, Arc<Placed>>,
    /// Host ports in use.
    pub(super) ports: Vec<HostPort>,
}

impl NodeState {
    /// A node and nothing on it.
    pub(super) fn new(node: Arc<Node>) -> Self {
        let mut state = Self::default();
        state.set(node);
        state
    }

    fn set(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let pods = allocatable.and_then(|all| all.get("pods")).and_then(|pods| pods.0.parse().ok());
        self.most_pods = pods.unwrap_or(0);
        self.allocatable = Amounts::of(allocatable);
        self.images = images(&node);
        self.name = node.name_any();
        self.node = node;
    }

    /// Takes room for a pod.
    pub(super) fn place(&mut self, key: Key, placed: Arc<Placed>) {
        self.requested.add(&placed.requested);
        self.scored.add(&placed.scored);
        self.ports.extend(placed.ports.iter().cloned());
        if let Some(before) = self.pods.insert(key, placed) {
            self.give_back(&before);
        }
    }

    /// Gives the room of a pod back.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(placed) = self.pods.remove(key) {
            self.give_back(&placed);
        }
    }

    fn give_back(&mut self, placed: &Placed) {
        self.requested.subtract(&placed.requested);
        self.scored.subtract(&placed.scored);
        if !placed.ports.is_empty() {
            self.ports = self.pods.values().flat_map(|placed| placed.ports.iter().cloned()).collect();
        }
    }
}

/// All nodes, and what is on them.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) nodes: BTreeMap<String, NodeState>,
    /// Nodes that pods name and that are not there (yet, or any more).
    absent: BTreeMap<String, NodeState>,
    places: HashMap<Key, String>,
    /// Decided, and not yet seen as bound.
    assumed: HashSet<Key>,
    /// Pods for which others were ended: room is kept for them.
    nominated: BTreeMap<Key, (String, Arc<Placed>)>,
    /// Pods that want to be near others or away from them.
    pub(super) sociable: BTreeMap<Key, String>,
    /// How many nodes have an image.
    images: HashMap<String, usize>,
    /// Labels of namespaces.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Nodes that changed, or what is on them, one after the other; the first has the number `forgotten`.
    changed: Vec<String>,
    forgotten: u64,
    /// Counts changes that concern all nodes.
    epoch: u64,
}

impl Snapshot {
    /// A node came or changed.
    pub(super) fn set_node(&mut self, node: Arc<Node>) {
        let name = node.name_any();
        let known = self.nodes.remove(&name).or_else(|| self.absent.remove(&name));
        let mut state = known.unwrap_or_default();
        self.forget_images(&state);
        state.set(node);
        for image in state.images.keys() {
            *self.images.entry(image.clone()).or_insert(0) += 1;
        }
        self.touch(&name);
        self.nodes.insert(name, state);
    }

    fn forget_images(&mut self, state: &NodeState) {
        for image in state.images.keys() {
            if let Some(holders) = self.images.get_mut(image) {
                *holders -= 1;
                if *holders == 0 {
                    self.images.remove(image);
                }
            }
        }
    }

    /// Which share of the nodes has an image.
    pub(super) fn spread_of(&self, image: &str) -> f64 {
        let holders = self.images.get(image).copied().unwrap_or(0);
        holders as f64 / self.nodes.len().max(1) as f64
    }

    /// A namespace came, changed or went.
    pub(super) fn set_namespace(&mut self, name: String, labels: Option<BTreeMap<String, String>>) {
        self.epoch += 1;
        match labels {
            Some(labels) => drop(self.namespaces.insert(name, labels)),
            None => drop(self.namespaces.remove(&name)),
        }
    }

    fn touch(&mut self, node: &str) {
        if self.changed.len() >= MOST_CHANGES {
            self.forgotten += MOST_CHANGES as u64;
            self.changed.clear();
        }
        self.changed.push(node.to_owned());
    }

    /// Changes of single nodes so far.
    pub(super) fn changes(&self) -> u64 {
        self.forgotten + self.changed.len() as u64
    }

    /// The nodes of all changes but the first `seen`; nothing if some of them are forgotten.
    pub(super) fn changed_since(&self, seen: u64) -> Option<&[String]> {
        self.changed.get(usize::try_from(seen.checked_sub(self.forgotten)?).ok()?..)
    }

    /// Another one when something has changed that concerns all nodes.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A node went; its pods may outlive it.
    pub(super) fn remove_node(&mut self, name: &str) {
        self.touch(name);
        let Some(mut state) = self.nodes.remove(name) else { return };
        self.forget_images(&state);
        state.images.clear();
        if !state.pods.is_empty() {
            self.absent.insert(name.to_owned(), state);
        }
    }

    /// Takes over what the API says of a pod; one that is decided stays where it is until the API agrees.
    pub(super) fn pod_changed(&mut self, key: &Key, pod: Option<&Arc<Pod>>) {
        let node = pod.and_then(|pod| pods::node_of(pod));
        match (pod, node) {
            (Some(pod), Some(node)) if !requests::is_finished(pod) => {
                self.place(key.clone(), node, pod.clone())
            }
            (Some(_), None) if self.assumed.contains(key) => {}
            _ => self.take_off(key),
        }
        if node.is_some() || pod.is_none() {
            self.assumed.remove(key);
            self.nominated.remove(key);
        }
    }

    /// Decides a pod's node before the API does.
    pub(super) fn assume(&mut self, key: &Key, node: &str, pod: Arc<Pod>) {
        self.place(key.clone(), node, pod);
        self.assumed.insert(key.clone());
        self.nominated.remove(key);
    }

    /// Whether the pod's node is decided already.
    pub(super) fn is_assumed(&self, key: &Key) -> bool {
        self.assumed.contains(key)
    }

    /// The API did not agree.
    pub(super) fn forget(&mut self, key: &Key) {
        if self.assumed.remove(key) {
            self.take_off(key);
        }
    }

    /// Keeps room for a pod; without a node, no longer.
    pub(super) fn nominate(&mut self, key: &Key, node: Option<&str>, pod: &Arc<Pod>) {
        match node {
            Some(node) => {
                self.nominated.insert(key.clone(), (node.to_owned(), Arc::new(Placed::new(pod.clone()))));
            }
            None => drop(self.nominated.remove(key)),
        }
    }

    /// Pods for which room is kept on a node.
    pub(super) fn nominated_on(&self, node: &str) -> impl Iterator<Item = (&Key, &Arc<Placed>)> {
        self.nominated.iter().filter(move |(_, (on, _))| on == node).map(|(key, (_, placed))| (key, placed))
    }

    /// Whether room is kept for anybody.
    pub(super) fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    fn place(&mut self, key: Key, node: &str, pod: Arc<Pod>) {
        if self.places.get(&key).is_some_and(|before| before != node) {
            self.take_off(&key);
        }
        self.touch(node);
        if is_sociable(&pod) {
            self.epoch += 1;
            self.sociable.insert(key.clone(), node.to_owned());
        }
        self.places.insert(key.clone(), node.to_owned());
        let placed = Arc::new(Placed::new(pod));
        match self.nodes.get_mut(node) {
            Some(state) => state.place(key, placed),
            None => self.absent.entry(node.to_owned()).or_default().place(key, placed),
        }
    }

    fn take_off(&mut self, key: &Key) {
        let Some(node) = self.places.remove(key) else { return };
        self.touch(&node);
        self.epoch += u64::from(self.sociable.remove(key).is_some());
        if let Some(state) = self.nodes.get_mut(&node).or_else(|| self.absent.get_mut(&node)) {
            state.remove(key);
        }
        if self.absent.get(&node).is_some_and(|state| state.pods.is_empty()) {
            self.absent.remove(&node);
        }
    }
}

fn images(node: &Node) -> HashMap<String, i64> {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    let sized = images.filter_map(|image| Some((image.names.as_ref()?, image.size_bytes?)));
    sized.flat_map(|(names, size)| names.iter().map(move |name| (name.clone(), size))).collect()
}

fn is_sociable(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    affinity.is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
}

/// The host ports a pod wants for as long as it runs.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(stays);
        spec.containers.iter().chain(sidecars)
    });
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

#[cfg(test)]
mod tests;
