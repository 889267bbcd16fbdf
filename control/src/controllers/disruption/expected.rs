//! How many pods the owners of a budget's pods ask for: what a budget in percent, or of pods that may be missing, is
//! reckoned from. Pods that are gone are missing too, so the pods that are there do not say it.

use crate::controllers::informer::{Key, Lister};
use crate::controllers::ownership;
use crate::controllers::runner::{is_not_found, message_of};
use crate::controllers::wiring::Wire;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where sizes are looked up.
pub(super) struct Owners {
    client: Client,
    replica_sets: Lister<ReplicaSet>,
    deployments: Lister<Deployment>,
    stateful_sets: Lister<StatefulSet>,
    replication_controllers: Lister<ReplicationController>,
}

/// What all owners together ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    /// Some pods have no owner: nobody says how many there should be.
    pub(super) unmanaged: bool,
}

/// The size of one owner, by the uid that stands for it.
type Size = (String, i32);

impl Owners {
    pub(super) fn new(wire: &mut Wire<'_>) -> Self {
        Self {
            client: wire.client(),
            replica_sets: wire.reads(),
            deployments: wire.reads(),
            stateful_sets: wire.reads(),
            replication_controllers: wire.reads(),
        }
    }

    /// Asks the owners of these pods, each once; an error where one does not say.
    pub(super) async fn expected(&self, pods: &[Arc<Pod>]) -> Result<Expected, String> {
        let (mut sizes, mut unmanaged) = (BTreeMap::new(), false);
        let mut asked = Vec::new();
        for pod in pods {
            let Some(owner) = ownership::controller_of(&pod.metadata) else {
                unmanaged = true;
                continue;
            };
            if asked.contains(&&owner.uid) {
                continue;
            }
            asked.push(&owner.uid);
            let namespace = pod.namespace().unwrap_or_default();
            let known = self.known(&namespace, owner);
            let found = match known {
                Some(found) => found,
                None => self.other(&namespace, owner).await?,
            };
            let (uid, size) =
                found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.name_any()))?;
            sizes.insert(uid, size);
        }
        Ok(Expected { pods: sizes.into_values().fold(0, i32::saturating_add), unmanaged })
    }

    /// The size of an owner of a kind that we know, if it is there; `None` where it is of another kind.
    fn known(&self, namespace: &str, owner: &OwnerReference) -> Option<Option<Size>> {
        Some(match (group_of(owner), owner.kind.as_str()) {
            ("apps", "ReplicaSet") => self.of_replica_set(namespace, owner),
            ("apps", "StatefulSet") => {
                let set = found(&self.stateful_sets, namespace, owner);
                set.map(|set| size_of(&*set, set.spec.as_ref().and_then(|spec| spec.replicas)))
            }
            ("", "ReplicationController") => {
                let found = found(&self.replication_controllers, namespace, owner);
                found.map(|found| size_of(&*found, found.spec.as_ref().and_then(|spec| spec.replicas)))
            }
            _ => return None,
        })
    }

    /// Sets of one deployment are counted as one: while they change places there are more pods than are asked for.
    fn of_replica_set(&self, namespace: &str, owner: &OwnerReference) -> Option<Size> {
        let set = found(&self.replica_sets, namespace, owner)?;
        let above = ownership::controller_of(&set.metadata);
        let above = above.filter(|above| group_of(above) == "apps" && above.kind == "Deployment");
        let deployment = above.and_then(|above| found(&self.deployments, namespace, above));
        Some(match deployment {
            Some(above) => size_of(&*above, above.spec.as_ref().and_then(|spec| spec.replicas)),
            None => size_of(&*set, set.spec.as_ref().and_then(|spec| spec.replicas)),
        })
    }

    /// The size of an owner of any kind that has one.
    async fn other(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<Size>, String> {
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let kind = GroupVersionKind::gvk(group, version, &owner.kind);
        let said = |error: kube::Error| message_of(&error);
        let (resource, abilities) = kube::discovery::pinned_kind(&self.client, &kind).await.map_err(said)?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        match api.get_scale(&owner.name).await {
            Ok(scale) if scale.metadata.uid.as_deref() == Some(&owner.uid) => {
                Ok(Some((owner.uid.clone(), scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))))
            }
            Ok(_) => Ok(None),
            Err(error) if !is_not_found(&error) => Err(said(error)),
            // The owner is gone, or is of a kind that has no size.
            Err(_) if abilities.subresources.iter().any(|(below, _)| below.plural == "scale") => Ok(None),
            Err(_) => {
                let dot = if group.is_empty() { "" } else { "." };
                Err(format!("{}{dot}{group} does not implement the scale subresource", resource.plural))
            }
        }
    }
}

fn group_of(owner: &OwnerReference) -> &str {
    owner.api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The very object that is referred to.
fn found<K>(all: &Lister<K>, namespace: &str, owner: &OwnerReference) -> Option<Arc<K>>
where
    K: crate::controllers::informer::Watched,
{
    all.get(&Key::new(namespace, &owner.name))
        .filter(|object| object.meta().uid.as_deref() == Some(&owner.uid))
}

fn size_of<K: Resource<DynamicType = ()>>(owner: &K, replicas: Option<i32>) -> Size {
    (owner.meta().uid.clone().unwrap_or_default(), replicas.unwrap_or(1))
}
