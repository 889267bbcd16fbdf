//! Pods that nobody else will remove: those of nodes that no longer exist or are out of service, those deleted before
//! they had a node, and the oldest of very many that have ended.

use super::informer::{Key, Lister};
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A node that has just disappeared may be on its way back (deleted and registered again).
const QUARANTINE: Duration = Duration::from_secs(40);
/// So many pods may have ended and still be there.
const MOST_ENDED: usize = 12_500;
/// Somebody says that a node will not come back as it was.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Woken by pods, by nodes that go, and by those that are put out of service.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("podgc", plane);
    wire.woken_by::<Pod>(|old, new, queue| {
        if let Some(pod) = new {
            queue.add(Key::of(&**pod));
        }
        let ended = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| pods::is_terminal(pod));
        if ended(new) && !ended(old) {
            queue.add(ended_pods());
        }
    });
    let pods = wire.reads::<Pod>();
    let all = pods.clone();
    wire.woken_by::<Node>(move |old, new, queue| {
        let gone = old.filter(|_| new.is_none());
        if let Some(node) = gone.or(new.filter(|node| is_out_of_service(node))) {
            all.on_node(&node.name_any()).iter().for_each(|pod| queue.add(Key::of(&**pod)));
        }
    });
    let controller = PodGc { client: wire.client(), pods, nodes: wire.reads(), missing: Mutex::default() };
    wire.run(1, controller)
}

/// Stands for all pods that have ended: no pod is called like this.
fn ended_pods() -> Key {
    Key::new("", "")
}

/// Everything one reconcile needs; keys are pods, and [`ended_pods`].
struct PodGc {
    client: Client,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    /// Since when nodes are not there that pods name.
    missing: Mutex<HashMap<String, Instant>>,
}

/// Why nobody else will remove a pod.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    NodeGone,
    OutOfService,
    NeverPlaced,
}

impl Reconcile for PodGc {
    /// Removes one pod if nobody else will; a node that is not there is looked for again after a while.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        if key == ended_pods() {
            return self.thin_out().await;
        }
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Wait) };
        let name = pods::node_of(&pod);
        let node = name.and_then(|name| self.nodes.get(&Key::new("", name)));
        let quarantine = name.map_or(Duration::ZERO, |name| self.quarantine(name, node.is_some()));
        match left(&pod, node.as_deref()) {
            None => Ok(Next::Wait),
            Some(Left::NodeGone) if !quarantine.is_zero() => Ok(Next::After(quarantine)),
            Some(why) => self.remove(&pod, &why).await.map(|()| Next::Wait),
        }
    }
}

impl PodGc {
    /// How long a node that is missing may still come back.
    fn quarantine(&self, node: &str, is_there: bool) -> Duration {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_there {
            missing.remove(node);
            return Duration::ZERO;
        }
        let since = missing.entry(node.to_owned()).or_insert_with(Instant::now);
        QUARANTINE.saturating_sub(since.elapsed())
    }

    /// Removes the oldest ended pods while there are too many.
    async fn thin_out(&self) -> Result<Next, kube::Error> {
        for pod in too_many(self.pods.all(), MOST_ENDED) {
            self.delete(&pod).await?;
        }
        Ok(Next::Wait)
    }

    /// No kubelet will say any more how the pod ended: it has failed.
    async fn remove(&self, pod: &Pod, why: &Left) -> Result<(), kube::Error> {
        if !pods::is_terminal(pod) {
            let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": Time(Timestamp::now())}]);
            let mut status = json!({"phase": "Failed"});
            if *why == Left::NodeGone {
                status["conditions"] = condition;
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
            let parameters = PatchParams::default();
            ignore_not_found(self.api(pod).patch_status(&pod.name_any(), &parameters, &patch).await)?;
        }
        self.delete(pod).await
    }

    async fn delete(&self, pod: &Pod) -> Result<(), kube::Error> {
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let parameters = DeleteParams::default().grace_period(0).preconditions(preconditions);
        ignore_not_found(self.api(pod).delete(&pod.name_any(), &parameters).await)
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }
}

/// Why nobody else will remove a pod of this node, if so.
fn left(pod: &Pod, node: Option<&Node>) -> Option<Left> {
    let dying = pod.metadata.deletion_timestamp.is_some();
    match (pods::node_of(pod), node) {
        (Some(_), None) => Some(Left::NodeGone),
        (Some(_), Some(node)) => (dying && is_out_of_service(node)).then_some(Left::OutOfService),
        (None, _) => dying.then_some(Left::NeverPlaced),
    }
}

/// Not ready, and said to be out of service.
fn is_out_of_service(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    !is_ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Ended pods that are beyond `most`: first those that were evicted, then the oldest.
fn too_many(mut all: Vec<Arc<Pod>>, most: usize) -> Vec<Arc<Pod>> {
    all.retain(|pod| pods::is_terminal(pod));
    let excess = all.len().saturating_sub(most);
    if excess == 0 {
        return Vec::new();
    }
    let was_evicted =
        |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
    all.sort_by_cached_key(|pod| (!was_evicted(pod), pod.creation_timestamp(), pod.name_any()));
    all.truncate(excess);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn pod(name: &str, spec: Value, status: Value, deleted: bool) -> Pod {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        let meta =
            json!({"name": name, "deletionTimestamp": deleted, "creationTimestamp": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn who_is_left() {
        let node = |ready: &str, taint: &str| -> Node {
            serde_json::from_value(
                json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .unwrap()
        };
        let placed = || json!({"nodeName": "n", "containers": []});
        let open = || json!({"containers": []});
        let of =
            |spec: Value, deleted: bool, node: Option<&Node>| left(&pod("p", spec, json!({}), deleted), node);
        let (silent, out) = (node("Unknown", "other"), node("Unknown", OUT_OF_SERVICE));
        assert_eq!(of(placed(), false, None), Some(Left::NodeGone));
        assert_eq!(of(placed(), true, Some(&out)), Some(Left::OutOfService));
        assert_eq!(of(placed(), false, Some(&out)), None);
        assert_eq!(of(placed(), true, Some(&silent)), None);
        assert_eq!(of(placed(), true, Some(&node("True", OUT_OF_SERVICE))), None, "it works");
        assert_eq!(of(open(), true, None), Some(Left::NeverPlaced));
        assert_eq!(of(open(), false, None), None);
    }

    #[test]
    fn the_oldest_of_too_many_go_first() {
        let ended = |name: &str, reason: &str| {
            let status = json!({"phase": "Failed", "reason": reason});
            Arc::new(pod(name, json!({"containers": []}), status, false))
        };
        let runs = Arc::new(pod("runs", json!({"containers": []}), json!({"phase": "Running"}), false));
        let all = vec![ended("b", ""), ended("a", ""), ended("z", "Evicted"), runs, ended("c", "")];
        let names = |most: usize| -> Vec<String> {
            too_many(all.clone(), most).iter().map(|pod| pod.name_any()).collect()
        };
        assert_eq!(names(1), ["z", "a", "b"]);
        assert_eq!(names(3), ["z"]);
        assert!(names(4).is_empty());
    }
}
