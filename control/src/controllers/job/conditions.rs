//! A job's conditions, with Kubernetes' reasons and words.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The condition of this type, if it holds.
pub(super) fn holding<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// `Complete` or `Failed`, once the job has ended.
pub(super) fn ended(job: &Job) -> Option<&JobCondition> {
    let status = job.status.as_ref()?;
    holding(status, "Complete").or_else(|| holding(status, "Failed"))
}

/// Sets a condition; answers whether its status changed.
pub(super) fn set(
    status: &mut JobStatus,
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> bool {
    let value = if holds { "True" } else { "False" };
    let known = status.conditions.iter().flatten().any(|condition| condition.type_ == kind);
    // A condition that never held is not worth saying.
    if !holds && !known {
        return false;
    }
    let conditions = status.conditions.get_or_insert_default();
    if let Some(present) = conditions.iter().find(|condition| condition.type_ == kind)
        && present.status == value
    {
        return false;
    }
    let known = conditions.iter().position(|condition| condition.type_ == kind);
    let condition = JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match known.and_then(|at| conditions.get_mut(at)) {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    true
}
