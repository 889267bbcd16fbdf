//! Failures that are limited by index: each index has a count, a delay and an end of its own.
//!
//! The count goes from one pod to the next, as an annotation; so the last failed pod of an index is kept until there is
//! another one, whoever deletes it.

use super::failure_policy::{self, Verdict};
use super::{Pods, conditions, indexes, template, tracking};
use crate::controllers::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often an index has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Failures {
    /// Against the limit.
    pub(super) counted: u32,
    /// Those that the policy does not count.
    pub(super) ignored: u32,
}

impl Failures {
    fn all(self) -> u32 {
        self.counted.saturating_add(self.ignored)
    }
}

/// The last pod of an index that failed, and the failures with that one.
struct Last {
    pod: Arc<Pod>,
    failures: Failures,
}

/// What the failed pods of a job say about its indexes.
pub(super) struct PerIndex {
    limit: u32,
    last: BTreeMap<i32, Last>,
}

impl PerIndex {
    /// Reads the pods of a job that limits failures so.
    pub(super) fn of(job: &Job, pods: Pods<'_>) -> Option<Self> {
        let limit = job.spec.as_ref()?.backoff_limit_per_index?;
        let mut last: BTreeMap<i32, Last> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| tracking::has_failed(job, pod)) {
            let Some(index) = template::index_of(pod) else { continue };
            let failures = failures_with(job, pod);
            if last.get(&index).is_none_or(|known| known.failures.all() < failures.all()) {
                last.insert(index, Last { pod: pod.clone(), failures });
            }
        }
        Some(Self { limit: u32::try_from(limit).unwrap_or(0), last })
    }

    /// What the next pod of an index says about the ones before it.
    pub(super) fn failures(&self, index: i32) -> Failures {
        self.last.get(&index).map(|last| last.failures).unwrap_or_default()
    }

    /// Indexes that failed too often.
    fn exhausted(&self) -> impl Iterator<Item = i32> {
        let exceeded = |last: &Last| last.failures.counted > self.limit;
        self.last.iter().filter(move |(_, last)| exceeded(last)).map(|(index, _)| *index)
    }

    /// How long an index must wait for its next pod.
    pub(super) fn back_off(&self, index: i32, now: Timestamp) -> SignedDuration {
        let Some(last) = self.last.get(&index) else { return SignedDuration::ZERO };
        let Some(at) = pods::finished_at(&last.pod) else { return SignedDuration::ZERO };
        tracking::delay_after(last.failures.all()) - now.duration_since(at)
    }

    /// Pods that are not let go yet: the next one of their index must learn from them.
    pub(super) fn kept(&self, job: &Job, pods: Pods<'_>, failed: &BTreeSet<i32>) -> BTreeSet<String> {
        let status = job.status.as_ref();
        let over = ["FailureTarget", "SuccessCriteriaMet"];
        let over = |status| over.iter().any(|kind| conditions::holding(status, kind).is_some());
        if status.is_some_and(over)
            || job.metadata.deletion_timestamp.is_some()
            || conditions::ended(job).is_some()
        {
            return BTreeSet::new();
        }
        let has_other = |index: &i32| {
            let goes_on = |pod: &&Arc<Pod>| pods::is_active(pod) || pods::phase(pod) == "Succeeded";
            pods.iter().filter(goes_on).any(|pod| template::index_of(pod) == Some(*index))
        };
        let text = status.and_then(|status| status.completed_indexes.as_deref()).unwrap_or_default();
        let completed =
            indexes::parse(text, job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(0));
        let waiting = self
            .last
            .iter()
            .filter(|(index, _)| !failed.contains(index) && !completed.contains(index) && !has_other(index));
        waiting.filter_map(|(_, last)| last.pod.uid()).collect()
    }
}

/// The failures of its index, the one of this pod included.
fn failures_with(job: &Job, pod: &Pod) -> Failures {
    let before = template::failures_of(pod);
    match failure_policy::verdict(job, pod) {
        Some(Verdict::Ignore) => Failures { ignored: before.ignored.saturating_add(1), ..before },
        _ => Failures { counted: before.counted.saturating_add(1), ..before },
    }
}

/// Indexes that have failed for good: those that were, those too often, those that a rule fails.
pub(super) fn failed_indexes(job: &Job, pods: Pods<'_>, failures: Option<&PerIndex>) -> BTreeSet<i32> {
    let old = job.status.as_ref().and_then(|status| status.failed_indexes.as_deref()).unwrap_or_default();
    let limit = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(0);
    let mut failed = indexes::parse(old, limit);
    failed.extend(failures.into_iter().flat_map(PerIndex::exhausted));
    let by_rule = pods.iter().filter(|pod| failure_policy::verdict(job, pod) == Some(Verdict::FailIndex));
    failed.extend(by_rule.filter_map(|pod| template::index_of(pod)));
    failed
}
