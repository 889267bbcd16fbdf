//! ReplicaSet: as many pods of one template as asked for, no more and no less.
//!
//! Pods are found by owner reference (adopting orphans that match, releasing those that no longer do), created in
//! batches of 1, 2, 4, ... so that a template that cannot work fails once and not five hundred times, and deleted in
//! the order in which they would be missed least.

mod plan;

use super::events::{Recorder, Severity};
use super::expectations::Expectations;
use super::informer::{Key, Lister};
use super::ownership::{self, Claim};
use super::runner::{Next, Reconcile, ignore_not_found};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;

/// Most pods created or deleted in one go.
const BURST: usize = 500;

/// Everything one reconcile needs.
pub(crate) struct ReplicaSets {
    pub(crate) client: Client,
    pub(crate) replica_sets: Lister<ReplicaSet>,
    pub(crate) pods: Lister<Pod>,
    pub(crate) expectations: Arc<Expectations>,
    pub(crate) recorder: Recorder,
}

impl Reconcile for ReplicaSets {
    /// Brings one ReplicaSet closer to what it asks for.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(set) = self.replica_sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Next::Wait);
        };
        let pods = self.claim(&set, &key.namespace).await?;
        let active: Vec<Arc<Pod>> = pods.into_iter().filter(|pod| plan::is_active(pod)).collect();
        let mut failure = None;
        if set.metadata.deletion_timestamp.is_none() && self.expectations.met(&key) {
            failure = self.scale(&key, &set, &active).await.err();
        }
        self.write_status(&set, &active, failure.as_ref()).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(plan::next_look(&set, &active, jiff::Timestamp::now())),
        }
    }
}

impl ReplicaSets {
    /// The pods that are this set's, after adoption and release.
    async fn claim(&self, set: &ReplicaSet, namespace: &str) -> Result<Vec<Arc<Pod>>, kube::Error> {
        let uid = set.uid().unwrap_or_default();
        let Some(spec) = &set.spec else { return Ok(Vec::new()) };
        let mut owned = Vec::new();
        for pod in self.pods.in_namespace(namespace) {
            match ownership::claim(&uid, &spec.selector, &pod.metadata) {
                Claim::Owned => owned.push(pod),
                Claim::Adopt if set.metadata.deletion_timestamp.is_none() && plan::is_active(&pod) => {
                    self.set_owner(&pod, json!([ownership::controlled_by(set)])).await?;
                    owned.push(pod);
                }
                Claim::Release => self.set_owner(&pod, json!([{"$patch": "delete", "uid": uid}])).await?,
                Claim::Adopt | Claim::Foreign => {}
            }
        }
        Ok(owned)
    }

    async fn set_owner(&self, pod: &Pod, references: serde_json::Value) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"uid": pod.uid(), "ownerReferences": references}});
        let patched = self
            .pods_api(pod)
            .patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        ignore_not_found(patched)
    }

    fn pods_api(&self, pod: &impl ResourceExt) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    async fn scale(&self, key: &Key, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let wanted = usize::try_from(plan::replicas(set)).unwrap_or(0);
        if active.len() < wanted {
            return self.create(key, set, (wanted - active.len()).min(BURST)).await;
        }
        if active.len() > wanted {
            let related = self.pods.in_namespace(&key.namespace);
            let doomed =
                plan::to_delete(active, &related, (active.len() - wanted).min(BURST), jiff::Timestamp::now());
            return self.delete(key, set, doomed).await;
        }
        Ok(())
    }

    /// Creates in growing batches; the first failed batch is the last.
    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        self.expectations.expect(key, u32::try_from(count).unwrap_or(u32::MAX), []);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = futures_util::future::join_all((0..size).map(|_| self.create_one(set))).await;
            left -= size;
            let failures: Vec<kube::Error> = results.into_iter().filter_map(Result::err).collect();
            failures.iter().for_each(|_| self.expectations.created(key));
            if let Some(error) = failures.into_iter().next() {
                (0..left).for_each(|_| self.expectations.created(key));
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, set: &ReplicaSet) -> Result<(), kube::Error> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let pod = pod_of(set, template);
        match self.pods_api(set).create(&PostParams::default(), &pod).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.name_any());
                self.recorder.record(set, Severity::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                let message = format!("Error creating: {error}");
                self.recorder.record(set, Severity::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, doomed: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        self.expectations.expect(key, 0, doomed.iter().filter_map(|pod| pod.uid()));
        let results =
            futures_util::future::join_all(doomed.iter().map(|pod| self.delete_one(set, pod))).await;
        let mut failed = None;
        for (pod, result) in doomed.iter().zip(results) {
            if let Err(error) = result {
                self.expectations.deleted(key, &pod.uid().unwrap_or_default());
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn delete_one(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), kube::Error> {
        let parameters =
            DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
        match self.pods_api(pod).delete(&pod.name_any(), &parameters).await {
            Ok(_) => {
                let message = format!("Deleted pod: {}", pod.name_any());
                self.recorder.record(set, Severity::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                let message = format!("Error deleting: {error}");
                self.recorder.record(set, Severity::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        failure: Option<&kube::Error>,
    ) -> Result<(), kube::Error> {
        let now = jiff::Timestamp::now();
        let status: ReplicaSetStatus = plan::status(set, active, failure.map(ToString::to_string), now);
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": set.uid(), "resourceVersion": set.resource_version()}, "status": status});
        ignore_not_found(
            api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await,
        )
    }
}

/// A pod of the template, named after its owner.
fn pod_of(set: &ReplicaSet, template: PodTemplateSpec) -> Pod {
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![ownership::controlled_by(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
