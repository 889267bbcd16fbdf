//! What every workload controller does alike with its pods: claim those that are its own, create and delete them,
//! say so in events, and remember what was written until its own copy shows it.
//!
//! Pods are created in batches of 1, 2, 4, ... so that a template that cannot work fails once, not hundreds of times.

use super::events::{Recorder, Severity};
use super::expectations::Expectations;
use super::informer::{Key, Lister};
use super::ownership::{self, Claim};
use super::pods;
use super::runner::{ignore_not_found, is_not_found, message_of};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;

/// Most pods created or deleted in one go.
pub(crate) const BURST: usize = 500;

/// The pods of one controller's objects.
pub(crate) struct PodControl {
    client: Client,
    /// The copy of all pods.
    pub(crate) pods: Lister<Pod>,
    /// What was written and not yet seen.
    pub(crate) expectations: Arc<Expectations>,
    /// Events of this controller.
    pub(crate) recorder: Recorder,
}

impl PodControl {
    /// `component` is who events name as their source.
    pub(crate) fn new(client: &Client, pods: Lister<Pod>, component: &'static str) -> Self {
        let recorder = Recorder::new(client.clone(), component);
        Self { client: client.clone(), pods, expectations: Arc::new(Expectations::new()), recorder }
    }

    /// The pods that are `owner`'s, after adoption and release.
    pub(crate) async fn claim<K>(
        &self,
        owner: &K,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<Pod>>, kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        self.claim_those(owner, selector, |_| true).await
    }

    /// The same, adopting only pods that `may_adopt`.
    pub(crate) async fn claim_those<K>(
        &self,
        owner: &K,
        selector: &LabelSelector,
        may_adopt: impl Fn(&Pod) -> bool,
    ) -> Result<Vec<Arc<Pod>>, kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let uid = owner.uid().unwrap_or_default();
        let mut owned = Vec::new();
        for pod in self.pods.claimable(&owner.namespace().unwrap_or_default(), &uid) {
            match ownership::claim(&uid, selector, &pod.metadata) {
                Claim::Owned => owned.push(pod),
                Claim::Adopt
                    if owner.meta().deletion_timestamp.is_none()
                        && pods::is_active(&pod)
                        && may_adopt(&pod) =>
                {
                    self.set_owner(&pod, json!([ownership::controlled_by(owner)])).await?;
                    owned.push(pod);
                }
                Claim::Release => self.set_owner(&pod, json!([{"$patch": "delete", "uid": uid}])).await?,
                Claim::Adopt | Claim::Foreign => {}
            }
        }
        Ok(owned)
    }

    async fn set_owner(&self, pod: &Pod, references: serde_json::Value) -> Result<(), kube::Error> {
        self.patch(pod, json!({"metadata": {"uid": pod.uid(), "ownerReferences": references}})).await
    }

    /// A strategic merge patch; a pod that is gone needs none.
    pub(crate) async fn patch(&self, pod: &Pod, patch: serde_json::Value) -> Result<(), kube::Error> {
        let parameters = PatchParams::default();
        ignore_not_found(self.api(pod).patch(&pod.name_any(), &parameters, &Patch::Strategic(patch)).await)
    }

    fn api(&self, object: &impl ResourceExt) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// Creates and deletes; both are tried, the first error is answered.
    pub(crate) async fn apply<K>(
        &self,
        owner: &K,
        mut create: Vec<Pod>,
        mut doomed: Vec<Arc<Pod>>,
    ) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        create.truncate(BURST);
        doomed.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        doomed.truncate(BURST);
        if create.is_empty() && doomed.is_empty() {
            return Ok(());
        }
        let key = Key::of(owner);
        let creations = u32::try_from(create.len()).unwrap_or(u32::MAX);
        self.expectations.expect(&key, creations, doomed.iter().filter_map(|pod| pod.uid()));
        let created = self.create(&key, owner, &create).await;
        let deleted = self.delete(&key, owner, &doomed).await;
        created.and(deleted)
    }

    /// Creates in growing batches; the first failed batch is the last.
    async fn create<K>(&self, key: &Key, owner: &K, pods: &[Pod]) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let (mut left, mut batch) = (pods, 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let results =
                futures_util::future::join_all(now.iter().map(|pod| self.create_one(owner, pod))).await;
            left = later;
            let failures: Vec<kube::Error> = results.into_iter().filter_map(Result::err).collect();
            failures.iter().for_each(|_| self.expectations.created(key));
            if let Some(error) = failures.into_iter().next() {
                left.iter().for_each(|_| self.expectations.created(key));
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one<K>(&self, owner: &K, pod: &Pod) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        match self.api(pod).create(&PostParams::default(), pod).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.name_any());
                self.recorder.record(owner, Severity::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                let message = format!("Error creating: {}", message_of(&error));
                self.recorder.record(owner, Severity::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn delete<K>(&self, key: &Key, owner: &K, doomed: &[Arc<Pod>]) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let results =
            futures_util::future::join_all(doomed.iter().map(|pod| self.delete_one(owner, pod))).await;
        let mut failed = None;
        for (pod, result) in doomed.iter().zip(results) {
            if let Err(error) = result {
                self.expectations.deleted(key, &pod.uid().unwrap_or_default());
                failed = failed.or(Some(error).filter(|error| !is_not_found(error)));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn delete_one<K>(&self, owner: &K, pod: &Pod) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let parameters =
            DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
        match self.api(pod).delete(&pod.name_any(), &parameters).await {
            Ok(_) => {
                let message = format!("Deleted pod: {}", pod.name_any());
                self.recorder.record(owner, Severity::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                if !is_not_found(&error) {
                    let message = format!("Error deleting: {}", message_of(&error));
                    self.recorder.record(owner, Severity::Warning, "FailedDelete", message);
                }
                Err(error)
            }
        }
    }
}

/// A pod of the template, named after its owner.
pub(crate) fn pod_of<K: Resource<DynamicType = ()>>(owner: &K, template: PodTemplateSpec) -> Pod {
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            namespace: owner.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![ownership::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
