//! What a job does next, decided from data alone: it ends, rests, or has so many pods as it may.

use super::failure_policy::{self, Verdict};
use super::per_index::{self, Failures, PerIndex};
use super::tracking::{self, Counts};
use super::{Pods, conditions, indexes, template};
use crate::controllers::events::Severity;
use crate::controllers::pod_control::BURST;
use crate::controllers::pods;
use crate::controllers::replica_set::to_delete;
use crate::controllers::runner::Next;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Everything to be done.
pub(super) struct Plan {
    pub(super) status: JobStatus,
    /// Indexes of new pods; none for a job without indexes.
    pub(super) create: Vec<Option<i32>>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Counted as soon as the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    pub(super) events: Vec<(Severity, &'static str, String)>,
    pub(super) next: Next,
    /// The time to live after the end is over.
    pub(super) expired: bool,
    /// Where failures are limited by index.
    failures: Option<Arc<PerIndex>>,
}

impl Plan {
    /// What the next pod of an index says about the ones before it.
    pub(super) fn failures_of(&self, index: Option<i32>) -> Option<Failures> {
        Some(self.failures.as_ref()?.failures(index?))
    }
}

/// The world of one job.
struct World<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    pods: Pods<'a>,
    active: Vec<Arc<Pod>>,
    counts: Counts,
    failures: Option<Arc<PerIndex>>,
    failed_indexes: BTreeSet<i32>,
    /// Failed pods that are let go later.
    kept: BTreeSet<String>,
    now: Timestamp,
}

/// Decides; with `may_act` false (writes are outstanding) no pod is started or stopped.
pub(super) fn plan(job: &Job, pods: Pods<'_>, may_act: bool, now: Timestamp) -> Plan {
    let none = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&none);
    let failures = PerIndex::of(job, pods).map(Arc::new);
    let failed_indexes = per_index::failed_indexes(job, pods, failures.as_deref());
    let kept = failures.as_deref().map(|all| all.kept(job, pods, &failed_indexes)).unwrap_or_default();
    let world = World {
        job,
        spec,
        pods,
        active: pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect(),
        counts: Counts::of(job, pods, &kept),
        failures: failures.clone(),
        failed_indexes,
        kept,
        now,
    };
    let mut plan = Plan {
        status: world.status(),
        create: Vec::new(),
        delete: Vec::new(),
        release: world.counts.release.clone(),
        events: Vec::new(),
        next: Next::Wait,
        expired: false,
        failures,
    };
    world.decide(&mut plan);
    if !may_act {
        plan.create.clear();
        plan.delete.clear();
    }
    plan
}

impl World<'_> {
    /// The old conditions with the present numbers.
    fn status(&self) -> JobStatus {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let old = self.job.status.clone().unwrap_or_default();
        let mut status = JobStatus {
            active: Some(count(self.active.len())).filter(|active| *active > 0),
            ready: Some(count(self.active.iter().filter(|pod| pods::ready_since(pod).is_some()).count())),
            terminating: Some(count(self.terminating())),
            ..old
        };
        self.counts.write(self.job, &mut status);
        if self.spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(indexes::format(&self.failed_indexes));
        }
        status
    }

    fn terminating(&self) -> usize {
        let dying = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_some() && !pods::is_terminal(pod);
        self.pods.iter().filter(dying).count()
    }

    fn decide(&self, plan: &mut Plan) {
        if let Some(end) = conditions::ended(self.job) {
            plan.delete.clone_from(&self.active);
            let since = end.last_transition_time.as_ref().map(|Time(at)| *at);
            return self.live_on(plan, since.unwrap_or(self.now));
        }
        self.start(plan);
        self.judge(plan);
        if DOOMED.iter().any(|kind| conditions::holding(&plan.status, kind).is_some()) {
            plan.delete.clone_from(&self.active);
            return self.end(plan);
        }
        if self.job.metadata.deletion_timestamp.is_some() {
            return;
        }
        if self.spec.suspend == Some(true) {
            return self.suspend(plan);
        }
        self.resume(plan);
        self.manage(plan);
    }

    /// It begins when it is first looked at and may run; one made suspended when it is resumed.
    fn start(&self, plan: &mut Plan) {
        if plan.status.start_time.is_none() && self.spec.suspend != Some(true) {
            plan.status.start_time = Some(Time(self.now));
        }
    }

    /// After the end: until the time to live is over.
    fn live_on(&self, plan: &mut Plan, since: Timestamp) {
        let Some(seconds) = self.spec.ttl_seconds_after_finished else { return };
        let left = SignedDuration::from_secs(seconds.into()) - self.now.duration_since(since);
        plan.expired = !left.is_positive()
            && self.job.metadata.deletion_timestamp.is_none()
            && self.counts.release.is_empty();
        plan.next = after(left);
    }

    /// Whether it has succeeded or failed by now. What was said once holds.
    fn judge(&self, plan: &mut Plan) {
        if DOOMED.iter().any(|kind| conditions::holding(&plan.status, kind).is_some()) {
            return;
        }
        if let Some((reason, message)) = self.failure() {
            conditions::set(&mut plan.status, "FailureTarget", true, (reason, &message), self.now);
            return;
        }
        if let Some(rule) = self.success_rule() {
            let words = ("SuccessPolicy", format!("Matched rules at index {rule}"));
            conditions::set(&mut plan.status, "SuccessCriteriaMet", true, (words.0, &words.1), self.now);
        } else if self.has_succeeded() {
            let words = ("CompletionsReached", "Reached expected number of succeeded pods");
            conditions::set(&mut plan.status, "SuccessCriteriaMet", true, words, self.now);
        }
    }

    /// The first rule of the success policy that enough indexes meet.
    fn success_rule(&self) -> Option<usize> {
        let rules = &self.spec.success_policy.as_ref()?.rules;
        let limit = self.spec.completions.unwrap_or(0);
        rules.iter().position(|rule| {
            let listed = rule.succeeded_indexes.as_deref().map(|text| indexes::parse(text, limit));
            let met = |index: &&i32| listed.as_ref().is_none_or(|listed| listed.contains(index));
            let met = self.counts.completed.iter().filter(met).count();
            match (rule.succeeded_count, &listed) {
                (Some(count), _) => i32::try_from(met).unwrap_or(i32::MAX) >= count,
                (None, Some(listed)) => met == listed.len(),
                (None, None) => false,
            }
        })
    }

    fn has_succeeded(&self) -> bool {
        let succeeded = self.counts.succeeded();
        match self.spec.completions {
            Some(wanted) => succeeded >= wanted,
            None => succeeded > 0 && self.active.is_empty(),
        }
    }

    /// Why the job has failed.
    fn failure(&self) -> Option<(&'static str, String)> {
        let fails = |pod: &Arc<Pod>| match failure_policy::verdict(self.job, pod)? {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        };
        if let Some(message) = self.pods.iter().find_map(fails) {
            return Some(("PodFailurePolicy", message));
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.counts.failed() > limit || self.restarted_too_often(limit) {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned()));
        }
        if self.deadline_left().is_some_and(|left| !left.is_positive()) {
            return Some(("DeadlineExceeded", "Job was active longer than specified deadline".to_owned()));
        }
        self.index_failure()
    }

    /// Containers that are restarted in place count like failed pods.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        let restarts: i32 = self
            .active
            .iter()
            .map(|pod| pods::restarts(pod).saturating_add(pods::restarts_before(pod)))
            .sum();
        policy == Some("OnFailure") && restarts >= limit.max(1)
    }

    fn deadline_left(&self) -> Option<SignedDuration> {
        let deadline = SignedDuration::from_secs(self.spec.active_deadline_seconds?);
        let Time(start) = self.job.status.as_ref()?.start_time.as_ref()?;
        (self.spec.suspend != Some(true)).then(|| deadline - self.now.duration_since(*start))
    }

    fn index_failure(&self) -> Option<(&'static str, String)> {
        let failed = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes".to_owned();
            return Some(("MaxFailedIndexesExceeded", message));
        }
        let done = self.counts.succeeded().saturating_add(failed);
        (failed > 0 && self.spec.completions.is_some_and(|all| done >= all))
            .then(|| ("FailedIndexes", "Job has failed indexes".to_owned()))
    }

    /// The end is said when every pod has ended and is counted.
    fn end(&self, plan: &mut Plan) {
        if !self.active.is_empty()
            || self.terminating() > 0
            || !self.counts.settled()
            || !self.kept.is_empty()
        {
            return;
        }
        let failure = conditions::holding(&plan.status, "FailureTarget").cloned();
        let cause = failure.clone().or(conditions::holding(&plan.status, "SuccessCriteriaMet").cloned());
        let Some(cause) = cause else { return };
        let reason = cause.reason.unwrap_or_default();
        let message = cause.message.unwrap_or_default();
        if failure.is_some() {
            conditions::set(&mut plan.status, "Failed", true, (&reason, &message), self.now);
            let reason = REASONS.iter().find(|known| **known == reason).unwrap_or(&"Failed");
            plan.events.push((Severity::Warning, reason, message));
        } else {
            conditions::set(&mut plan.status, "Complete", true, (&reason, &message), self.now);
            plan.status.completion_time = Some(Time(self.now));
            plan.events.push((Severity::Normal, "Completed", "Job completed".to_owned()));
        }
        self.live_on(plan, self.now);
    }

    fn suspend(&self, plan: &mut Plan) {
        plan.delete.clone_from(&self.active);
        let words = ("JobSuspended", "Job suspended");
        if conditions::set(&mut plan.status, "Suspended", true, words, self.now) {
            plan.events.push((Severity::Normal, "Suspended", "Job suspended".to_owned()));
        }
    }

    fn resume(&self, plan: &mut Plan) {
        let words = ("JobResumed", "Job resumed");
        if conditions::set(&mut plan.status, "Suspended", false, words, self.now) {
            plan.events.push((Severity::Normal, "Resumed", "Job resumed".to_owned()));
            // Its deadline is for the time in which it may run.
            plan.status.start_time = Some(Time(self.now));
        }
    }

    /// As many pods as may run and are still needed, not sooner than the back-off allows.
    fn manage(&self, plan: &mut Plan) {
        let deadline = match (self.deadline_left(), self.spec.active_deadline_seconds) {
            (Some(left), _) => after(left),
            (None, Some(seconds)) => after(SignedDuration::from_secs(seconds)),
            (None, None) => Next::Wait,
        };
        plan.next = deadline;
        let (wanted, active) = (self.wanted(), self.active.len());
        plan.delete = self.surplus(active.saturating_sub(wanted));
        if !plan.delete.is_empty() {
            return;
        }
        let dying = if tracking::replaces_only_failed(self.job) { self.terminating() } else { 0 };
        let missing = wanted.saturating_sub(active + dying).min(BURST);
        if let Some(failures) = &self.failures {
            return self.start_indexes(plan, failures, missing);
        }
        let delay = self.back_off();
        if missing > 0 && delay.is_positive() {
            plan.next = sooner(after(delay), deadline);
        } else if tracking::is_indexed(self.job) {
            plan.create = self.free_indexes().take(missing).map(Some).collect();
        } else {
            plan.create = vec![None; missing];
        }
    }

    /// At least so many pods that are too much: first of all those whose index nobody needs, or has another pod.
    fn surplus(&self, count: usize) -> Vec<Arc<Pod>> {
        let mut seen = BTreeSet::new();
        let is_indexed = tracking::is_indexed(self.job);
        if !is_indexed || self.active.iter().all(|pod| self.is_needed(pod, &mut seen)) {
            return to_delete(&self.active, self.pods, count, self.now);
        }
        // Of an index with several pods the one that has got farthest stays.
        let ranked = to_delete(&self.active, self.pods, self.active.len(), self.now);
        seen.clear();
        let (rest, mut useless): (Vec<_>, Vec<_>) =
            ranked.into_iter().rev().partition(|pod| self.is_needed(pod, &mut seen));
        let more = count.saturating_sub(useless.len());
        useless.extend(to_delete(&rest, self.pods, more, self.now));
        useless
    }

    /// Whether it is the first pod of an index that there is.
    fn is_needed(&self, pod: &Pod, seen: &mut BTreeSet<i32>) -> bool {
        let all = 0..self.spec.completions.unwrap_or(0);
        template::index_of(pod).is_some_and(|index| all.contains(&index) && seen.insert(index))
    }

    /// An index that has failed waits for itself; the others go on.
    fn start_indexes(&self, plan: &mut Plan, failures: &PerIndex, missing: usize) {
        for index in self.free_indexes().take(missing) {
            let delay = failures.back_off(index, self.now);
            if delay.is_positive() {
                plan.next = sooner(after(delay), plan.next);
            } else {
                plan.create.push(Some(index));
            }
        }
    }

    /// How many pods may be active.
    fn wanted(&self) -> usize {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let done = self.counts.succeeded();
        match self.spec.completions {
            Some(all) => {
                let failed = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
                usize::try_from(all.saturating_sub(done).saturating_sub(failed)).unwrap_or(0).min(parallelism)
            }
            // Any success says that the work is done: those that run finish, and no new ones come.
            None if done > 0 => self.active.len(),
            None => parallelism,
        }
    }

    fn free_indexes(&self) -> impl Iterator<Item = i32> {
        let taken: BTreeSet<i32> = self.active.iter().filter_map(|pod| template::index_of(pod)).collect();
        let all = 0..self.spec.completions.unwrap_or(0);
        all.filter(move |index| {
            !taken.contains(index)
                && !self.counts.completed.contains(index)
                && !self.failed_indexes.contains(index)
        })
    }

    /// How long no new pod may start: 10 s after the first failure since the last success, doubled with each.
    fn back_off(&self) -> SignedDuration {
        let ends = |failed: bool| {
            let of_kind = move |pod: &&Arc<Pod>| {
                if failed { tracking::has_failed(self.job, pod) } else { pods::phase(pod) == "Succeeded" }
            };
            self.pods.iter().filter(of_kind).filter_map(|pod| pods::finished_at(pod))
        };
        let success = ends(false).max();
        let failures: Vec<Timestamp> =
            ends(true).filter(|at| success.is_none_or(|success| *at > success)).collect();
        let Some(last) = failures.iter().max() else { return SignedDuration::ZERO };
        tracking::delay_after(u32::try_from(failures.len()).unwrap_or(u32::MAX))
            - self.now.duration_since(*last)
    }
}

/// Conditions of a job that ends as soon as its pods have.
const DOOMED: [&str; 2] = ["FailureTarget", "SuccessCriteriaMet"];

/// Reasons for which a job fails, as events carry them.
const REASONS: [&str; 5] = [
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "PodFailurePolicy",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
];

fn after(left: SignedDuration) -> Next {
    Next::After(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

fn sooner(first: Next, second: Next) -> Next {
    match (first, second) {
        (Next::After(first), Next::After(second)) => Next::After(first.min(second)),
        (Next::Wait, other) | (other, Next::Wait) => other,
    }
}

#[cfg(test)]
mod tests;
