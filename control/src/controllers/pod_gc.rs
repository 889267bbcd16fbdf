//! Pods that nobody else will remove: those of nodes that no longer exist, and those deleted before they had one.

use super::informer::{Key, Lister};
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use std::time::Duration;

/// A node that has just disappeared may be on its way back (deleted and registered again).
const QUARANTINE: Duration = Duration::from_secs(40);

/// Woken by pods, and by nodes that go.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("podgc", plane);
    let pods = wire.keys::<Pod>();
    let all = pods.clone();
    wire.woken_by::<Node>(move |old, new, queue| {
        if let (Some(node), None) = (old, new) {
            all.on_node(&node.name_any()).iter().for_each(|pod| queue.add(Key::of(&**pod)));
        }
    });
    let controller = PodGc { client: wire.client(), pods, nodes: wire.reads() };
    wire.run(1, controller)
}

/// Everything one reconcile needs; keys are pods.
pub(crate) struct PodGc {
    pub(crate) client: Client,
    pub(crate) pods: Lister<Pod>,
    pub(crate) nodes: Lister<Node>,
}

impl Reconcile for PodGc {
    /// Removes one pod if its node is gone; the node is asked for twice, with time in between.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Wait) };
        if !self.is_orphan(&pod) {
            return Ok(Next::Wait);
        }
        let gone_before = pod.annotations().contains_key(MARK);
        if !gone_before && pods::node_of(&pod).is_some() {
            self.mark(&pod).await?;
            return Ok(Next::After(QUARANTINE));
        }
        let parameters = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions { uid: pod.uid(), resource_version: None });
        ignore_not_found(self.api(&pod).delete(&pod.name_any(), &parameters).await)?;
        Ok(Next::Wait)
    }
}

impl PodGc {
    fn is_orphan(&self, pod: &Pod) -> bool {
        match pods::node_of(pod) {
            Some(node) => self.nodes.get(&Key::new("", node)).is_none(),
            None => pod.metadata.deletion_timestamp.is_some(),
        }
    }

    async fn mark(&self, pod: &Pod) -> Result<(), kube::Error> {
        let patch = serde_json::json!({"metadata": {"annotations": {MARK: "true"}}});
        let parameters = kube::api::PatchParams::default();
        ignore_not_found(
            self.api(pod).patch(&pod.name_any(), &parameters, &kube::api::Patch::Merge(patch)).await,
        )
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }
}

/// Says that this pod's node was already missing once.
const MARK: &str = "knarr.io/node-missing";
