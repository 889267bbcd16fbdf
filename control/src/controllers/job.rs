//! Job: pods that run until enough of them have succeeded, or too many have failed.
//!
//! Every pod carries a finalizer until its end is counted: the uid goes into the status first
//! (`uncountedTerminatedPods`), then the finalizer goes, then the uid becomes a count. Whatever is lost in between, a
//! pod is counted once, even when somebody deletes it.

mod conditions;
mod failure_policy;
mod indexes;
mod per_index;
mod plan;
mod template;
mod time_to_live;
mod tracking;

use super::informer::{Key, Lister};
use super::pod_control::PodControl;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, WORKERS, Wire};
use super::{ownership, status};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use plan::Plan;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Woken by its jobs and their pods.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("job", plane);
    let jobs = wire.keys::<Job>();
    let control = wire.pods::<Job>("job-controller", |job| job.spec.as_ref()?.selector.clone());
    wire.woken_by::<Pod>(|_, new, queue| {
        if let Some(pod) = new.filter(|pod| is_nobodys(pod)) {
            queue.add(Key::new(&pod.namespace().unwrap_or_default(), &pod.name_any()));
        }
    });
    let controller = Jobs { client: wire.client(), jobs, control };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Jobs {
    pub(crate) client: Client,
    pub(crate) jobs: Lister<Job>,
    pub(crate) control: PodControl,
}

impl Reconcile for Jobs {
    /// Counts what has ended, starts and stops pods, and writes both down.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let job = self.jobs.get(&key);
        self.release_orphans(&key, job.as_deref()).await?;
        let Some(job) = job else {
            self.control.expectations.forget(&key);
            return Ok(Next::Wait);
        };
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if manager.is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return self.of_another(&job).await;
        }
        let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Ok(Next::Wait);
        };
        let pods = self.control.claim(&*job, selector).await?;
        let plan = plan::plan(&job, &pods, self.control.expectations.met(&key), Timestamp::now());
        self.act(&job, plan).await
    }
}

impl Jobs {
    async fn act(&self, job: &Job, plan: Plan) -> Result<Next, kube::Error> {
        if plan.expired {
            return self.delete(job).await;
        }
        let create = plan.create.iter().map(|index| template::pod(job, *index, plan.failures_of(*index)));
        let applied = self.control.apply(job, create.collect(), plan.delete).await;
        if job.status.as_ref() != Some(&plan.status) {
            let written = Job { status: Some(plan.status), ..job.clone() };
            status::replace(&self.client, &written).await?;
        }
        for (severity, reason, message) in plan.events {
            self.control.recorder.record(job, severity, reason, message);
        }
        for pod in plan.release {
            self.release(&pod).await?;
        }
        applied.map(|()| plan.next)
    }

    /// A job that somebody else runs is deleted in time all the same.
    async fn of_another(&self, job: &Job) -> Result<Next, kube::Error> {
        match time_to_live::left(job, Timestamp::now()) {
            None => Ok(Next::Wait),
            Some(left) if left.is_zero() => self.delete(job).await,
            Some(left) => Ok(Next::After(Duration::try_from(left).unwrap_or_default())),
        }
    }

    /// The time to live is over.
    async fn delete(&self, job: &Job) -> Result<Next, kube::Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        let parameters = DeleteParams::foreground()
            .preconditions(Preconditions { uid: job.uid(), resource_version: job.resource_version() });
        ignore_not_found(api.delete(&job.name_any(), &parameters).await)?;
        Ok(Next::Wait)
    }

    /// Pods of a job of this name that is gone, and those that have been let go: nobody will count them.
    async fn release_orphans(&self, key: &Key, job: Option<&Job>) -> Result<(), kube::Error> {
        let uid = job.and_then(|job| job.metadata.uid.as_deref());
        for pod in self.control.pods.in_namespace(&key.namespace) {
            let orphan = ownership::controller_of(&pod.metadata).is_some_and(|owner| {
                owner.kind == "Job" && owner.name == key.name && Some(owner.uid.as_str()) != uid
            });
            if orphan && tracking::is_tracked(&pod) || is_nobodys(&pod) && !self.is_wanted(&pod) {
                self.release(&pod).await?;
            }
        }
        Ok(())
    }

    /// Whether a job will take a pod that has no controller.
    fn is_wanted(&self, pod: &Pod) -> bool {
        let takes = |job: &Arc<Job>| {
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            job.metadata.deletion_timestamp.is_none()
                && selector.is_some_and(|selector| ownership::selects(selector, pod.metadata.labels.as_ref()))
        };
        let namespace = pod.namespace().unwrap_or_default();
        pod.metadata.deletion_timestamp.is_none() && self.jobs.in_namespace(&namespace).iter().any(takes)
    }

    async fn release(&self, pod: &Pod) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [tracking::FINALIZER],
        }});
        self.control.patch(pod, patch).await
    }
}

/// Whether a pod is to be counted by a job and belongs to none.
fn is_nobodys(pod: &Pod) -> bool {
    tracking::is_tracked(pod) && ownership::controller_of(&pod.metadata).is_none()
}

/// Pods by number, shared.
type Pods<'a> = &'a [Arc<Pod>];
