//! ReplicaSet: as many pods of one template as asked for, no more and no less.
//!
//! Pods are found by owner reference (adopting orphans that match, releasing those that no longer do) and deleted in
//! the order in which they would be missed least.

mod plan;

pub(crate) use plan::to_delete;

use super::informer::{Key, Lister, Watched};
use super::pod_control::{BURST, PodControl, pod_of};
use super::runner::{Next, Reconcile, message_of};
use super::wiring::{Plane, Task, WORKERS, Wire};
use super::{pods, status};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;

/// Woken by its sets and their pods.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("replicaset", plane);
    let replicated = wire.keys::<ReplicaSet>();
    let control = wire.pods::<ReplicaSet>("replicaset-controller", |set| set.selector());
    let controller = ReplicaSets { client: wire.client(), replicated, control };
    wire.run(WORKERS, controller)
}

/// A kind whose objects work as replica sets do.
pub(crate) trait Replicated:
    Watched + Serialize + kube::Resource<Scope = NamespaceResourceScope>
{
    /// The object as a replica set.
    fn as_set(&self) -> Cow<'_, ReplicaSet>;
    /// What selects its pods.
    fn selector(&self) -> Option<LabelSelector>;
    /// The object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref().map(|spec| spec.selector.clone())
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

/// Everything one reconcile needs.
pub(crate) struct ReplicaSets<K> {
    pub(crate) client: Client,
    pub(crate) replicated: Lister<K>,
    pub(crate) control: PodControl,
}

impl<K: Replicated> Reconcile for ReplicaSets<K> {
    /// Brings one object closer to what it asks for.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(object) = self.replicated.get(&key) else {
            self.control.expectations.forget(&key);
            return Ok(Next::Wait);
        };
        let Some(selector) = object.selector() else { return Ok(Next::Wait) };
        let set = object.as_set();
        let claimed = self.control.claim(&*object, &selector).await?;
        let active: Vec<Arc<Pod>> = claimed.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let mut failure = None;
        if set.metadata.deletion_timestamp.is_none() && self.control.expectations.met(&key) {
            failure = self.scale(&object, &set, &active).await.err();
        }
        self.write_status(&object, &set, &active, failure.as_ref()).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(plan::next_look(&set, &active, jiff::Timestamp::now())),
        }
    }
}

impl<K: Replicated> ReplicaSets<K> {
    async fn scale(&self, object: &K, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let wanted = usize::try_from(plan::replicas(set)).unwrap_or(0);
        let missing = wanted.saturating_sub(active.len()).min(BURST);
        let excess = active.len().saturating_sub(wanted).min(BURST);
        if (missing, excess) == (0, 0) {
            return Ok(());
        }
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let create = vec![pod_of(object, template); missing];
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let related = if excess > 0 { self.control.pods.in_namespace(namespace) } else { Vec::new() };
        let doomed = to_delete(active, &related, excess, jiff::Timestamp::now());
        self.control.apply(object, create, doomed).await
    }

    async fn write_status(
        &self,
        object: &K,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        failure: Option<&kube::Error>,
    ) -> Result<(), kube::Error> {
        let new = plan::status(set, active, failure.map(|error| message_of(error)), jiff::Timestamp::now());
        if set.status.as_ref() == Some(&new) {
            return Ok(());
        }
        status::replace(&self.client, &object.with_status(new)).await
    }
}
