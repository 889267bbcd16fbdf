//! Counting ended pods once: from the finalizer over `uncountedTerminatedPods` to a number.

use super::failure_policy::{self, Verdict};
use super::{Pods, indexes, template};
use crate::controllers::pods;
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// On every pod whose end is not counted yet.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(10);
const LAST_DELAY: SignedDuration = SignedDuration::from_mins(10);

/// Whether the pod's end is still to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// What the ends of pods amount to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Counted, and what is on its way to be.
    succeeded: i32,
    failed: i32,
    uncounted_succeeded: Vec<String>,
    uncounted_failed: Vec<String>,
    /// Indexes with a pod that succeeded.
    pub(super) completed: BTreeSet<i32>,
    /// Those whose finalizer goes once the status says that they are on their way.
    pub(super) release: Vec<Arc<Pod>>,
}

impl Counts {
    /// Moves every pod one step further, but for those that are `kept` for now.
    pub(super) fn of(job: &Job, pods: Pods<'_>, kept: &BTreeSet<String>) -> Self {
        let none = JobStatus::default();
        let old = job.status.as_ref().unwrap_or(&none);
        let limit = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(0);
        let mut counts = Self {
            succeeded: old.succeeded.unwrap_or(0),
            failed: old.failed.unwrap_or(0),
            completed: indexes::parse(old.completed_indexes.as_deref().unwrap_or_default(), limit),
            ..Self::default()
        };
        counts.settle(old.uncounted_terminated_pods.as_ref(), pods);
        let is_kept = |pod: &Pod| pod.metadata.uid.as_ref().is_some_and(|uid| kept.contains(uid));
        let ready = pods.iter().filter(|pod| is_tracked(pod) && !is_kept(pod));
        ready.for_each(|pod| counts.take(job, pod, limit));
        if is_indexed(job) {
            counts.succeeded = i32::try_from(counts.completed.len()).unwrap_or(i32::MAX);
        }
        counts
    }

    /// Uids whose finalizer is gone become numbers.
    fn settle(&mut self, old: Option<&UncountedTerminatedPods>, pods: Pods<'_>) {
        let tracked =
            |uid: &&String| pods.iter().any(|pod| is_tracked(pod) && pod.metadata.uid.as_ref() == Some(*uid));
        let uids = |list: Option<&Vec<String>>| -> (Vec<String>, i32) {
            let all = list.map(Vec::as_slice).unwrap_or_default();
            let kept: Vec<String> = all.iter().filter(tracked).cloned().collect();
            let gone = i32::try_from(all.len() - kept.len()).unwrap_or(i32::MAX);
            (kept, gone)
        };
        let (kept, gone) = uids(old.and_then(|old| old.succeeded.as_ref()));
        self.uncounted_succeeded = kept;
        self.succeeded = self.succeeded.saturating_add(gone);
        let (kept, gone) = uids(old.and_then(|old| old.failed.as_ref()));
        self.uncounted_failed = kept;
        self.failed = self.failed.saturating_add(gone);
    }

    fn take(&mut self, job: &Job, pod: &Arc<Pod>, limit: i32) {
        let uid = pod.uid().unwrap_or_default();
        let (succeeded, failed) = (pods::phase(pod) == "Succeeded", has_failed(job, pod));
        if !succeeded && !failed {
            return;
        }
        self.release.push(pod.clone());
        let ignored = failed && failure_policy::verdict(job, pod) == Some(Verdict::Ignore);
        if ignored || self.uncounted_succeeded.contains(&uid) || self.uncounted_failed.contains(&uid) {
            return;
        }
        if failed {
            return self.uncounted_failed.push(uid);
        }
        match template::index_of(pod).filter(|_| is_indexed(job)) {
            // Of two pods with one index, the second changes nothing.
            Some(index) if (0..limit).contains(&index) => {
                self.completed.insert(index);
            }
            Some(_) => {}
            None => self.uncounted_succeeded.push(uid),
        }
    }

    /// Pods that succeeded, counted or not; for an indexed job the indexes that did.
    pub(super) fn succeeded(&self) -> i32 {
        self.succeeded.saturating_add(i32::try_from(self.uncounted_succeeded.len()).unwrap_or(i32::MAX))
    }

    /// Pods that failed, counted or not.
    pub(super) fn failed(&self) -> i32 {
        self.failed.saturating_add(i32::try_from(self.uncounted_failed.len()).unwrap_or(i32::MAX))
    }

    /// Nothing is on its way.
    pub(super) fn settled(&self) -> bool {
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty()
    }

    /// Writes the counts into a status.
    pub(super) fn write(&self, job: &Job, status: &mut JobStatus) {
        let list = |uids: &Vec<String>| Some(uids.clone()).filter(|uids| !uids.is_empty());
        status.succeeded = Some(self.succeeded).filter(|count| *count > 0);
        status.failed = Some(self.failed).filter(|count| *count > 0);
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
        if is_indexed(job) {
            status.completed_indexes = Some(indexes::format(&self.completed)).filter(|text| !text.is_empty());
        }
    }
}

/// Each completion has an index of its own.
pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Only pods that have really ended are replaced, not those on their way out.
pub(super) fn replaces_only_failed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.pod_replacement_policy.as_deref()) == Some("Failed")
}

/// How long nothing is tried again: 10 s after the first failure, doubled with each one that follows.
pub(super) fn delay_after(failures: u32) -> SignedDuration {
    FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_DELAY)
}

/// Failed, or deleted before it ended.
pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pod.metadata.deletion_timestamp.is_some() && !replaces_only_failed(job),
    }
}
