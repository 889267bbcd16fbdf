//! ReplicaSet: as many pods of one template as asked for, no more and no less.
//!
//! Pods are found by owner reference (adopting orphans that match, releasing those that no longer do) and deleted in
//! the order in which they would be missed least.

mod plan;

pub(crate) use plan::to_delete;

use super::informer::{Key, Lister};
use super::pod_control::{BURST, PodControl, pod_of};
use super::runner::{Next, Reconcile, message_of};
use super::wiring::{Plane, Task, WORKERS, Wire};
use super::{pods, status};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use std::sync::Arc;

/// Woken by its sets and their pods.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("replicaset", plane);
    let replica_sets = wire.keys::<ReplicaSet>();
    let control = wire.pods::<ReplicaSet>("replicaset-controller", |set| Some(&set.spec.as_ref()?.selector));
    let controller = ReplicaSets { client: wire.client(), replica_sets, control };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct ReplicaSets {
    pub(crate) client: Client,
    pub(crate) replica_sets: Lister<ReplicaSet>,
    pub(crate) control: PodControl,
}

impl Reconcile for ReplicaSets {
    /// Brings one ReplicaSet closer to what it asks for.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(set) = self.replica_sets.get(&key) else {
            self.control.expectations.forget(&key);
            return Ok(Next::Wait);
        };
        let Some(spec) = &set.spec else { return Ok(Next::Wait) };
        let claimed = self.control.claim(&*set, &spec.selector).await?;
        let active: Vec<Arc<Pod>> = claimed.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let mut failure = None;
        if set.metadata.deletion_timestamp.is_none() && self.control.expectations.met(&key) {
            failure = self.scale(&set, &active).await.err();
        }
        self.write_status(&set, &active, failure.as_ref()).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(plan::next_look(&set, &active, jiff::Timestamp::now())),
        }
    }
}

impl ReplicaSets {
    async fn scale(&self, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let wanted = usize::try_from(plan::replicas(set)).unwrap_or(0);
        let missing = wanted.saturating_sub(active.len()).min(BURST);
        let excess = active.len().saturating_sub(wanted).min(BURST);
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let create = vec![pod_of(set, template); missing];
        let related = self.control.pods.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default());
        let doomed = to_delete(active, &related, excess, jiff::Timestamp::now());
        self.control.apply(set, create, doomed).await
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        failure: Option<&kube::Error>,
    ) -> Result<(), kube::Error> {
        let new = plan::status(set, active, failure.map(message_of), jiff::Timestamp::now());
        if set.status.as_ref() == Some(&new) {
            return Ok(());
        }
        status::replace(&self.client, &ReplicaSet { status: Some(new), ..set.clone() }).await
    }
}
