//! Who owns whom, by uid, and what follows from it.

use crate::controllers::dynamic::Kind;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PropagationPolicy;
use std::collections::{HashMap, HashSet};

/// Finalizer of an owner that waits for its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner that leaves its dependents behind.
pub(super) const ORPHAN: &str = "orphan";

/// What matters of one object.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) uid: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) resource_version: Option<String>,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
}

impl Node {
    /// The node of an object; one without a uid or name cannot be tracked.
    pub(super) fn of(kind: &Kind, meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            kind: kind.clone(),
            uid: meta.uid.clone()?,
            namespace: meta.namespace.clone(),
            name: meta.name.clone()?,
            resource_version: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }

    /// On its way out, and held by the foreground finalizer.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|name| name == FOREGROUND)
    }

    /// Whether it is what a reference of an object in that namespace describes.
    pub(super) fn is_described_by(&self, owner: &OwnerReference, namespace: Option<&str>) -> bool {
        let here = self.namespace.is_none() || self.namespace.as_deref() == namespace;
        let kind = &self.kind.resource;
        here && self.name == owner.name
            && kind.kind == owner.kind
            && kind.group == group_of(&owner.api_version)
    }

    /// As events name it.
    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.kind.resource.api_version.clone()),
            kind: Some(self.kind.resource.kind.clone()),
            name: Some(self.name.clone()),
            namespace: self.namespace.clone(),
            uid: Some(self.uid.clone()),
            resource_version: self.resource_version.clone(),
            field_path: None,
        }
    }

    /// How it asks to be deleted itself.
    pub(super) fn own_policy(&self) -> Option<PropagationPolicy> {
        let has = |wanted: &str| self.finalizers.iter().any(|name| name == wanted);
        match (has(ORPHAN), has(FOREGROUND)) {
            (true, _) => Some(PropagationPolicy::Orphan),
            (false, true) => Some(PropagationPolicy::Foreground),
            (false, false) => None,
        }
    }

    /// Its owner must wait for it.
    pub(super) fn blocks(&self, owner: &str) -> bool {
        self.owners
            .iter()
            .any(|reference| reference.uid == owner && reference.block_owner_deletion == Some(true))
    }
}

/// What to do with an object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    DropOwners,
    Delete(PropagationPolicy),
}

/// One living owner keeps it (owners that are gone, or wait for it to go, are struck off); else one that waits for its
/// dependents takes it along, in the foreground if it has dependents too; else, with all owners gone, it goes in the
/// background.
pub(super) fn verdict(living: usize, waiting: usize, gone: usize, has_dependents: bool) -> Verdict {
    match (living, waiting, gone) {
        (1.., 0, 0) => Verdict::Keep,
        (1.., _, _) => Verdict::DropOwners,
        (0, 1.., _) if has_dependents => Verdict::Delete(PropagationPolicy::Foreground),
        (0, 0, 0) => Verdict::Keep,
        (0, _, _) => Verdict::Delete(PropagationPolicy::Background),
    }
}

/// `apps/v1` is of the group `apps`.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The owner references with which `node` blocks no owner any more, where one of its own dependents is waiting for
/// dependents too: that may be a circle. As in Kubernetes, it need not be one.
pub(super) fn without_blocking(node: &Node, dependents: &[Node]) -> Option<Vec<OwnerReference>> {
    if !dependents.iter().any(Node::waits_for_dependents) {
        return None;
    }
    let mut owners = node.owners.clone();
    let blocking = owners.iter_mut().filter(|owner| owner.block_owner_deletion == Some(true));
    let changed = blocking.map(|owner| owner.block_owner_deletion = Some(false)).count();
    (changed > 0).then_some(owners)
}

/// All objects that own or are owned.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// Takes in an object's present state; answers the uids to look at: its own, and owners that it blocked.
    pub(super) fn upsert(&mut self, node: Node) -> Vec<String> {
        let uid = node.uid.clone();
        let mut affected = Vec::new();
        if let Some(old) = self.nodes.get(&uid) {
            let owners: Vec<String> = old.owners.iter().map(|owner| owner.uid.clone()).collect();
            affected.extend(owners.iter().filter(|owner| old.blocks(owner) && !node.blocks(owner)).cloned());
            owners.iter().for_each(|owner| self.unlink(owner, &uid));
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        if node.deleting || !node.owners.is_empty() {
            affected.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        affected
    }

    /// Takes out an object; answers the uids to look at: its dependents, and owners that waited for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut affected: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            affected.push(owner.uid.clone());
        }
        affected
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// One object.
    pub(super) fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    /// Objects owned by `uid`.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.get(uid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    /// An object named as its uid; `waits` for its dependents to go first.
    fn node(uid: &str, owner: Option<(&str, bool)>, waits: bool) -> Node {
        let owners = owner.into_iter().map(|(uid, blocks)| OwnerReference {
            uid: uid.into(),
            block_owner_deletion: Some(blocks),
            ..OwnerReference::default()
        });
        Node {
            kind: Kind { resource: kube::discovery::ApiResource::erase::<ConfigMap>(&()), namespaced: true },
            uid: uid.into(),
            namespace: None,
            name: uid.into(),
            resource_version: None,
            owners: owners.collect(),
            finalizers: if waits { vec![FOREGROUND.into()] } else { Vec::new() },
            deleting: waits,
        }
    }

    #[test]
    fn who_would_wait_for_one_that_waits_blocks_nobody() {
        let blocks = |owners: Option<Vec<OwnerReference>>| {
            owners.map(|owners| owners.iter().any(|owner| owner.block_owner_deletion == Some(true)))
        };
        let c = node("c", Some(("b", true)), false);
        assert_eq!(blocks(without_blocking(&c, &[node("a", Some(("c", true)), true)])), Some(false));
        assert_eq!(blocks(without_blocking(&c, &[node("a", Some(("c", true)), false)])), None);
        assert_eq!(blocks(without_blocking(&c, &[])), None);
        let harmless = node("c", Some(("b", false)), false);
        assert_eq!(blocks(without_blocking(&harmless, &[node("a", Some(("c", true)), true)])), None);
    }

    #[test]
    fn an_owner_that_is_blocked_no_more_is_looked_at() {
        let mut graph = Graph::default();
        graph.upsert(node("b", None, true));
        assert_eq!(graph.upsert(node("c", Some(("b", true)), false)), ["c"]);
        assert_eq!(graph.upsert(node("c", Some(("b", false)), false)), ["b", "c"]);
        assert_eq!(graph.upsert(node("c", Some(("b", false)), false)), ["c"]);
        assert_eq!(graph.upsert(node("c", None, false)), [""; 0]);
        assert!(graph.dependents("b").is_empty());
    }

    #[test]
    fn an_owner_is_where_its_dependents_are() {
        let mut owner = node("o", None, false);
        owner.namespace = Some("a".into());
        let reference = |kind: &str, api_version: &str, name: &str| OwnerReference {
            kind: kind.into(),
            api_version: api_version.into(),
            name: name.into(),
            ..OwnerReference::default()
        };
        let right = reference("ConfigMap", "v1", "o");
        assert!(owner.is_described_by(&right, Some("a")));
        assert!(!owner.is_described_by(&right, Some("b")) && !owner.is_described_by(&right, None));
        for wrong in [
            reference("Secret", "v1", "o"),
            reference("ConfigMap", "apps/v1", "o"),
            reference("ConfigMap", "v1", "p"),
        ] {
            assert!(!owner.is_described_by(&wrong, Some("a")), "{wrong:?}");
        }
        owner.namespace = None;
        assert!(owner.is_described_by(&right, Some("b")), "what belongs to the cluster may own anything");
    }

    #[test]
    fn every_verdict() {
        let background = || Verdict::Delete(PropagationPolicy::Background);
        for has_dependents in [true, false] {
            assert_eq!(verdict(1, 0, 0, has_dependents), Verdict::Keep);
            assert_eq!(verdict(1, 1, 1, has_dependents), Verdict::DropOwners);
            assert_eq!(verdict(1, 1, 0, has_dependents), Verdict::DropOwners);
            assert_eq!(verdict(0, 0, 2, has_dependents), background());
            assert_eq!(verdict(0, 0, 0, has_dependents), Verdict::Keep);
        }
        assert_eq!(verdict(0, 1, 1, true), Verdict::Delete(PropagationPolicy::Foreground));
        assert_eq!(verdict(0, 1, 1, false), background());
    }
}
