//! Mirror pods: API objects that show the static pods of this node to the cluster. They are made by the node, follow
//! the static pod's hash, and deleting one changes nothing: it is made again. They belong to the Node object, so that
//! they go with it; an API server accepts no other pod from a node.

use crate::kubelet::pod::{self, HASH_ANNOTATION, MIRROR_ANNOTATION};
use crate::kubelet::status_writer::Target;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// A mirror as the API server shows it.
#[derive(Debug, Clone)]
struct Mirror {
    target: Target,
    hash: String,
    /// Somebody deletes it. Nothing of it is to be stopped, so it goes at once.
    leaving: bool,
}

/// The mirrors of this node.
pub(super) struct Mirrors {
    client: Option<kube::Client>,
    node_name: String,
    /// The Node object, once there is one.
    node: watch::Receiver<Option<Arc<Node>>>,
    /// By uid of the mirror.
    seen: BTreeMap<String, Mirror>,
    /// Which mirror each static pod's worker was told.
    told: BTreeMap<String, Option<Target>>,
}

impl Mirrors {
    pub(super) fn new(
        client: Option<kube::Client>,
        node_name: &str,
        node: watch::Receiver<Option<Arc<Node>>>,
    ) -> Mirrors {
        let node_name = node_name.to_string();
        Mirrors { client, node_name, node, seen: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// The node as the owner of its mirrors; none before it has registered.
    fn owner(&self) -> Option<OwnerReference> {
        Some(OwnerReference {
            api_version: "v1".to_string(),
            kind: "Node".to_string(),
            name: self.node_name.clone(),
            uid: self.node.borrow().as_ref()?.metadata.uid.clone()?,
            controller: Some(true),
            block_owner_deletion: None,
        })
    }

    pub(super) fn seen(&mut self, mirror: &Pod) {
        let hash = pod::annotation(mirror, MIRROR_ANNOTATION).unwrap_or_default().to_string();
        let leaving = mirror.metadata.deletion_timestamp.is_some();
        let seen = Mirror { target: Target::of(mirror), hash, leaving };
        self.seen.insert(pod::uid(mirror).to_string(), seen);
    }

    pub(super) fn gone(&mut self, uid: &str) {
        self.seen.remove(uid);
    }

    pub(super) fn keep_only(&mut self, present: &BTreeSet<String>) {
        self.seen.retain(|uid, _| present.contains(uid));
    }

    fn of(&self, pod: &Pod) -> Option<&Mirror> {
        self.seen.values().find(|mirror| {
            mirror.target.name == pod::name(pod) && mirror.target.namespace == pod::namespace(pod)
        })
    }

    fn fits(mirror: &Mirror, pod: &Pod) -> bool {
        !mirror.leaving && pod::annotation(pod, HASH_ANNOTATION) == Some(mirror.hash.as_str())
    }

    /// The mirror of a static pod, if there is a true one.
    pub(super) fn target(&self, pod: &Pod) -> Option<Target> {
        self.of(pod).filter(|mirror| Self::fits(mirror, pod)).map(|mirror| mirror.target.clone())
    }

    /// Mirrors of nothing that is wanted or still there.
    fn wrong(&self, statics: &[Arc<Pod>], ending: &[Arc<Pod>]) -> Vec<Target> {
        let shows = |mirror: &Mirror, pod: &Pod| {
            let target = &mirror.target;
            (pod::namespace(pod), pod::name(pod)) == (&target.namespace, &target.name)
                && Self::fits(mirror, pod)
        };
        let right = |mirror: &Mirror| statics.iter().chain(ending).any(|pod| shows(mirror, pod));
        self.seen.values().filter(|mirror| !right(mirror)).map(|mirror| mirror.target.clone()).collect()
    }

    /// Makes missing mirrors and deletes wrong ones; answers which workers (by uid) have a new mirror. A static pod that
    /// is `ending` is shown until nothing of it runs.
    pub(super) fn reconcile(
        &mut self,
        statics: &[Arc<Pod>],
        ending: &[Arc<Pod>],
    ) -> Vec<(String, Option<Target>)> {
        let Some(client) = self.client.clone() else { return Vec::new() };
        for target in self.wrong(statics, ending) {
            tokio::spawn(delete(client.clone(), target));
        }
        for pod in statics.iter().filter(|pod| self.of(pod).is_none()) {
            if let Some(owner) = self.owner() {
                tokio::spawn(create(client.clone(), mirror(pod, owner)));
            }
        }
        let now: BTreeMap<String, Option<Target>> =
            statics.iter().map(|pod| (pod::uid(pod).to_string(), self.target(pod))).collect();
        let changed = now.iter().filter(|(uid, target)| self.told.get(*uid).cloned().flatten() != **target);
        let changed = changed.map(|(uid, target)| (uid.clone(), target.clone())).collect();
        self.told = now;
        changed
    }
}

fn mirror(pod: &Pod, owner: OwnerReference) -> Pod {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.status = None;
    mirror.metadata.owner_references = Some(vec![owner]);
    let hash = pod::annotation(pod, HASH_ANNOTATION).unwrap_or_default().to_string();
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR_ANNOTATION.to_string(), hash);
    mirror
}

async fn create(client: kube::Client, mirror: Pod) {
    let pods: Api<Pod> = Api::namespaced(client, pod::namespace(&mirror));
    match pods.create(&PostParams::default(), &mirror).await {
        Ok(_) => {}
        // The watch has not shown it yet.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => tracing::warn!(pod = pod::name(&mirror), "mirror pod not created: {error}"),
    }
}

async fn delete(client: kube::Client, target: Target) {
    let pods: Api<Pod> = Api::namespaced(client, &target.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(kube::api::Preconditions { uid: Some(target.uid), resource_version: None }),
        ..Default::default()
    };
    match pods.delete(&target.name, &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(pod = target.name, "mirror pod not deleted: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mirrors_belong_to_the_node_and_wait_for_it() {
        let (seen, node) = watch::channel(None);
        let mirrors = Mirrors::new(None, "n", node);
        assert_eq!(mirrors.owner(), None);
        let object: Node = serde_json::from_value(json!({"metadata": {"name": "n", "uid": "u"}})).unwrap();
        seen.send_replace(Some(Arc::new(object)));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p-n", "uid": "x",
            "annotations": {HASH_ANNOTATION: "h"}}, "spec": {"containers": []}}))
        .unwrap();
        let made = serde_json::to_value(mirror(&pod, mirrors.owner().unwrap())).unwrap();
        assert_eq!(
            made["metadata"],
            json!({"name": "p-n",
            "annotations": {HASH_ANNOTATION: "h", MIRROR_ANNOTATION: "h"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]})
        );
    }
}
