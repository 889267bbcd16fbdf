//! What a cron job does now, decided from data alone: which jobs it forgets, ends and starts, and when it looks again.

use crate::controllers::events::Severity;
use crate::controllers::ownership;
use crate::controllers::runner::Next;
use crate::cron_schedule::{self, Schedule};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job, JobCondition};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// On a job: the time it was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed starts than this are told of.
const MANY: i64 = 100;

/// Everything to be done.
pub(super) struct Plan {
    pub(super) status: CronJobStatus,
    pub(super) create: Option<Job>,
    pub(super) delete: Vec<Arc<Job>>,
    pub(super) events: Vec<(Severity, &'static str, String)>,
    pub(super) next: Next,
    /// There is a job that the status does not know, or the other way round.
    pub(super) surprised: bool,
    scheduled: Option<Timestamp>,
}

impl Plan {
    /// The job was made: it counts as active, and its time as served.
    pub(super) fn started(&mut self, job: &Job) {
        self.status.last_schedule_time = self.scheduled.map(Time);
        let active = self.status.active.get_or_insert_default();
        if !active.iter().any(|one| one.uid == job.metadata.uid) {
            active.push(reference(job));
        }
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.events.push((Severity::Warning, reason, message));
    }

    fn note(&mut self, reason: &'static str, message: String) {
        self.events.push((Severity::Normal, reason, message));
    }
}

/// Decides; `jobs` are those that the cron job controls.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        create: None,
        delete: Vec::new(),
        events: Vec::new(),
        next: Next::Wait,
        surprised: false,
        scheduled: None,
    };
    take_stock(&mut plan, jobs);
    if let Some(spec) = cron.spec.as_ref().filter(|_| cron.metadata.deletion_timestamp.is_none()) {
        if spec.suspend != Some(true) {
            start(&mut plan, cron, spec, jobs, now);
        }
        for (outcome, limit) in [
            ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
            ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
        ] {
            plan.delete.extend(beyond(limit, outcome, jobs));
        }
    }
    plan.status.active = plan.status.active.take().filter(|active| !active.is_empty());
    plan
}

/// Active are the jobs that the status names, that exist, and that have not ended.
fn take_stock(plan: &mut Plan, jobs: &[Arc<Job>]) {
    let mut active = plan.status.active.take().unwrap_or_default();
    for job in jobs {
        let known = active.iter().position(|one| one.uid == job.metadata.uid);
        match (known, ended(job)) {
            (Some(at), Some(end)) => {
                active.remove(at);
                let message = format!("Saw completed job: {}, condition: {}", job.name_any(), end.type_);
                plan.note("SawCompletedJob", message);
            }
            (None, None) if job.metadata.deletion_timestamp.is_none() => {
                let name = job.name_any();
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.warn("UnexpectedJob", message);
                plan.surprised = true;
            }
            _ => {}
        }
        let done = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if done > plan.status.last_successful_time && ended(job).is_some_and(|end| end.type_ == "Complete") {
            plan.status.last_successful_time = done;
        }
    }
    active.retain(|one| {
        let exists = jobs.iter().any(|job| one.uid == job.metadata.uid);
        if !exists {
            let name = one.name.clone().unwrap_or_default();
            plan.events.push((Severity::Normal, "MissingJob", format!("Active job went missing: {name}")));
            plan.surprised = true;
        }
        exists
    });
    plan.status.active = Some(active);
}

fn ended(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|one| one.status == "True");
    ends.find(|one| one.type_ == "Complete" || one.type_ == "Failed")
}

/// Makes the job that is due, unless the policy or the deadline says no.
fn start(plan: &mut Plan, cron: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>], now: Timestamp) {
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                return plan.warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
            }
        },
    };
    let schedule = match cron_schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            return plan.warn("UnparseableSchedule", message);
        }
    };
    // `@every` counts from the start before, not from now.
    let since = since(cron, now);
    let before = most_recent(&schedule, &zone, since, now).map_or(since, |(due, _)| due);
    plan.next = match schedule.next(before, &zone) {
        // A little late is better than a little early, which would mean waiting once more.
        Some(next) => after(next.duration_since(now) + SignedDuration::from_millis(100)),
        None => Next::Wait,
    };
    let earliest = earliest(since, spec, now);
    if schedule.next(earliest, &zone).is_none() {
        let why = "time difference between two schedules is less than 1 second";
        return plan.warn("InvalidSchedule", format!("invalid schedule: {} : {why}", spec.schedule));
    }
    let Some((due, missed)) = most_recent(&schedule, &zone, earliest, now) else { return };
    if missed > MANY {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.warn("TooManyMissedTimes", message.to_owned());
    }
    if too_late(spec, due, now) {
        let at = due.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
        return plan.warn("MissSchedule", format!("Missed scheduled time to start a job: {at}"));
    }
    let served = plan.status.last_schedule_time.as_ref().is_some_and(|Time(at)| *at >= due);
    let name = name_of(cron, due);
    let active = plan.status.active.iter().flatten().any(|one| one.name.as_deref() == Some(&name));
    if !served && !active && make_room(plan, spec, jobs) {
        plan.scheduled = Some(due);
        plan.create = Some(job(cron, spec, name, due.to_zoned(zone)));
    }
}

/// What the concurrency policy says about those that still run.
fn make_room(plan: &mut Plan, spec: &CronJobSpec, jobs: &[Arc<Job>]) -> bool {
    let active = plan.status.active.clone().unwrap_or_default();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.note("JobAlreadyActive", message.to_owned());
            false
        }
        Some("Replace") => {
            let running = jobs.iter().filter(|job| active.iter().any(|one| one.uid == job.metadata.uid));
            plan.delete.extend(running.cloned());
            plan.status.active = Some(Vec::new());
            true
        }
        _ => true,
    }
}

/// The last time that was served, or that of the cron job's making.
fn since(cron: &CronJob, now: Timestamp) -> Timestamp {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.clone());
    last.or(cron.creation_timestamp()).map_or(now, |Time(at)| at)
}

/// The time from which on starts may have been missed.
fn earliest(since: Timestamp, spec: &CronJobSpec, now: Timestamp) -> Timestamp {
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let floor = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
    floor.map_or(since, |floor| since.max(floor))
}

fn too_late(spec: &CronJobSpec, due: Timestamp, now: Timestamp) -> bool {
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    deadline.is_some_and(|deadline| now.duration_since(due) > deadline)
}

/// The last time that has come since `earliest`, and about how many have.
fn most_recent(
    schedule: &Schedule,
    zone: &TimeZone,
    earliest: Timestamp,
    now: Timestamp,
) -> Option<(Timestamp, i64)> {
    let first = schedule.next(earliest, zone).filter(|first| *first <= now)?;
    let Some(second) = schedule.next(first, zone).filter(|second| *second <= now) else {
        return Some((first, 1));
    };
    // Long ago is jumped over; the last stretch is walked, because times need not be evenly spread.
    let period = second.duration_since(first).as_secs().max(1);
    let count = now.duration_since(first).as_secs() / period + 1;
    let jump = SignedDuration::from_secs(period.saturating_mul((count - 2).max(0)));
    let mut last = first;
    let mut at = first.checked_add(jump).ok().and_then(|from| schedule.next(from, zone));
    while let Some(next) = at.filter(|next| *next <= now) {
        last = next;
        at = schedule.next(next, zone);
    }
    Some((last, count))
}

/// The oldest ended jobs of one outcome beyond the limit; one that never began is the newest.
fn beyond(limit: i32, outcome: &str, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let of_kind = |job: &&Arc<Job>| {
        ended(job).is_some_and(|end| end.type_ == outcome) && job.metadata.deletion_timestamp.is_none()
    };
    let mut ended: Vec<Arc<Job>> = jobs.iter().filter(of_kind).cloned().collect();
    let started = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
    ended.sort_by_key(|job| (started(job).is_none(), started(job), job.name_any()));
    let excess = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    ended.truncate(excess);
    ended
}

fn name_of(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", cron.name_any(), due.as_second() / 60)
}

fn job(cron: &CronJob, spec: &CronJobSpec, name: String, due: jiff::Zoned) -> Job {
    let meta = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(
        SCHEDULED.to_owned(),
        due.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z"),
    );
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![ownership::controlled_by(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

fn after(left: SignedDuration) -> Next {
    Next::After(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests;
