//! Which pods belong together: those that the services of a pod and its controller select. They are spread over nodes
//! and zones, if nobody says otherwise.

use crate::controllers::informer::{Key, Lister};
use crate::controllers::ownership;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::ResourceExt;
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// The copies that are asked.
pub(super) struct Company {
    pub(super) services: Lister<Service>,
    pub(super) replication_controllers: Lister<ReplicationController>,
    pub(super) replica_sets: Lister<ReplicaSet>,
    pub(super) stateful_sets: Lister<StatefulSet>,
}

impl Company {
    /// Resolves when the copies are complete.
    pub(super) async fn synced(&self) {
        self.services.synced().await;
        self.replication_controllers.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
    }

    /// What selects the pods that belong with this one; nothing where it belongs to nobody.
    pub(super) fn of(&self, pod: &Pod) -> Option<LabelSelector> {
        let namespace = pod.namespace().unwrap_or_default();
        let mut wanted = Labels::new();
        self.services.each_in_namespace(&namespace, |service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if let Some(selector) = selector.filter(|selector| covers(selector, pod.labels())) {
                wanted.extend(selector.clone());
            }
        });
        let of_owner =
            ownership::controller_of(&pod.metadata).and_then(|owner| self.owner(&namespace, owner));
        let LabelSelector { match_labels, match_expressions } = of_owner.unwrap_or_default();
        wanted.extend(match_labels.into_iter().flatten());
        let expressions = match_expressions.filter(|expressions| !expressions.is_empty());
        let nobody = wanted.is_empty() && expressions.is_none();
        (!nobody).then_some(LabelSelector { match_labels: Some(wanted), match_expressions: expressions })
    }

    fn owner(&self, namespace: &str, owner: &OwnerReference) -> Option<LabelSelector> {
        let key = Key::new(namespace, &owner.name);
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => {
                let labels = self.replication_controllers.get(&key)?.spec.as_ref()?.selector.clone();
                Some(LabelSelector { match_labels: labels, match_expressions: None })
            }
            ("apps/v1", "ReplicaSet") => Some(self.replica_sets.get(&key)?.spec.as_ref()?.selector.clone()),
            ("apps/v1", "StatefulSet") => Some(self.stateful_sets.get(&key)?.spec.as_ref()?.selector.clone()),
            _ => None,
        }
    }
}

/// Of a service: one that selects nothing has no pods.
fn covers(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
