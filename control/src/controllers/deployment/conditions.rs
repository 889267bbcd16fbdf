//! Available, Progressing and ReplicaFailure, with Kubernetes' reasons and words.

use super::rolling::Limits;
use super::{World, status};
use crate::controllers::runner::Next;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use std::time::Duration;

/// The reason where a new set was refused.
pub(super) const NOT_CREATED: &str = "ReplicaSetCreateError";

/// A condition before it has times.
struct Wanted {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// All conditions, in Kubernetes' order; `failure` is why there is no new set.
pub(super) fn of(
    world: &World,
    new: &DeploymentStatus,
    failure: Option<String>,
    now: Timestamp,
) -> Vec<DeploymentCondition> {
    let mut wanted = vec![available(world, new)];
    wanted.extend(progressing(world, new, failure, now));
    wanted.extend(replica_failure(world));
    let moved = progressed(world, new);
    let mut conditions: Vec<DeploymentCondition> =
        wanted.into_iter().map(|one| timed(world, one, moved, now)).collect();
    conditions.sort_by_key(|condition| order(world, &condition.type_));
    conditions
}

/// Conditions keep the place they have; new ones come last.
fn order(world: &World, kind: &str) -> usize {
    let old = world.deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    old.and_then(|old| old.iter().position(|condition| condition.type_ == kind)).unwrap_or(usize::MAX)
}

fn available(world: &World, new: &DeploymentStatus) -> Wanted {
    let least = world.replicas() - Limits::of(world).unavailable;
    if new.available_replicas.unwrap_or(0) >= least {
        let message = "Deployment has minimum availability.".to_owned();
        Wanted { kind: "Available", status: "True", reason: "MinimumReplicasAvailable", message }
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        Wanted { kind: "Available", status: "False", reason: "MinimumReplicasUnavailable", message }
    }
}

fn progressing(
    world: &World,
    new: &DeploymentStatus,
    failure: Option<String>,
    now: Timestamp,
) -> Option<Wanted> {
    let spec = world.deployment.spec.as_ref()?;
    let deadline = spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    let before = find(world, "Progressing");
    let condition = |status, reason, message| Some(Wanted { kind: "Progressing", status, reason, message });
    if world.paused() {
        return condition("Unknown", "DeploymentPaused", "Deployment is paused".into());
    }
    if let Some(message) = failure {
        return condition("False", NOT_CREATED, message);
    }
    let Some(set) = &world.new_set else {
        return before.map(keep);
    };
    let name = set.name_any();
    if status::is_complete(world) {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return condition("True", "NewReplicaSetAvailable", message);
    }
    if progressed(world, new) {
        return condition("True", "ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."));
    }
    if let Some((reason, done)) = begun(world, set, before) {
        return condition("True", reason, format!("{done} new replica set \"{name}\""));
    }
    // The time in which nothing could move does not count.
    if before.is_some_and(|before| before.reason.as_deref() == Some("DeploymentPaused")) {
        return condition("Unknown", "DeploymentResumed", "Deployment is resumed".into());
    }
    let since = before.and_then(|before| before.last_update_time.as_ref()).map(|Time(at)| *at);
    let running = before.is_some_and(|before| before.reason.as_deref() != Some("NewReplicaSetAvailable"));
    if running
        && since.is_some_and(|since| now.duration_since(since) > SignedDuration::from_secs(deadline.into()))
    {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        return condition("False", "ProgressDeadlineExceeded", message);
    }
    before.map(keep)
}

/// Of a set of which nothing was said yet: whether it was made for this rollout, or was there before the deployment.
/// The time of a rollout begins anew with each set that is made, not with one that is gone back to.
fn begun(
    world: &World,
    set: &ReplicaSet,
    before: Option<&DeploymentCondition>,
) -> Option<(&'static str, &'static str)> {
    let created = |metadata: &ObjectMeta| metadata.creation_timestamp.clone();
    let made_since = |at: Option<Time>| created(&set.metadata) >= at;
    match before {
        None if !made_since(created(&world.deployment.metadata)) => Some(("FoundNewReplicaSet", "Found")),
        None => Some(("NewReplicaSetCreated", "Created")),
        Some(before) => {
            let names = |message: &String| message.contains(&format!("\"{}\"", set.name_any()));
            let was_made = before.reason.as_deref() != Some(NOT_CREATED);
            let is_told = was_made && before.message.as_ref().is_some_and(names);
            // Times are in whole seconds: a set of the same second was made before a pause, and after a rollout.
            let is_pause = before.reason.as_deref().is_some_and(|reason| reason.starts_with("Deployment"));
            let is_older = is_pause && created(&set.metadata) == before.last_update_time;
            (!is_told && !is_older && made_since(before.last_update_time.clone()))
                .then_some(("NewReplicaSetCreated", "Created"))
        }
    }
}

/// The condition as it was.
fn keep(before: &DeploymentCondition) -> Wanted {
    let known = |text: &str, all: &[&'static str]| {
        all.iter().copied().find(|one| *one == text).unwrap_or("ReplicaSetUpdated")
    };
    let reasons = [
        "NewReplicaSetCreated",
        "FoundNewReplicaSet",
        "ReplicaSetUpdated",
        "NewReplicaSetAvailable",
        "ProgressDeadlineExceeded",
        "DeploymentPaused",
        "DeploymentResumed",
        NOT_CREATED,
    ];
    Wanted {
        kind: "Progressing",
        status: if before.status == "True" {
            "True"
        } else if before.status == "False" {
            "False"
        } else {
            "Unknown"
        },
        reason: known(before.reason.as_deref().unwrap_or_default(), &reasons),
        message: before.message.clone().unwrap_or_default(),
    }
}

/// More updated, more ready or more available pods, or fewer old ones, than the status said.
fn progressed(world: &World, new: &DeploymentStatus) -> bool {
    let zero = DeploymentStatus::default();
    let old = world.deployment.status.as_ref().unwrap_or(&zero);
    let count = |value: Option<i32>| value.unwrap_or(0);
    let old_pods = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || old_pods(new) < old_pods(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

/// What a set says of pods that it cannot make or delete, the new one first.
fn replica_failure(world: &World) -> Option<Wanted> {
    let failing = world.new_set.iter().chain(&world.old_sets).find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
    })?;
    let reason = match failing.reason.as_deref() {
        Some("FailedDelete") => "FailedDelete",
        _ => "FailedCreate",
    };
    let said = find(world, "ReplicaFailure").filter(|before| before.reason.as_deref() == Some(reason));
    let message = said.map_or(&failing.message, |before| &before.message).clone().unwrap_or_default();
    Some(Wanted { kind: "ReplicaFailure", status: "True", reason, message })
}

fn find<'a>(world: &'a World, kind: &str) -> Option<&'a DeploymentCondition> {
    let conditions = world.deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Times: a transition when the status changed, an update when anything did, or when a rollout moved.
fn timed(world: &World, wanted: Wanted, moved: bool, now: Timestamp) -> DeploymentCondition {
    let before = find(world, wanted.kind);
    let same_status = before.filter(|before| before.status == wanted.status);
    let same = same_status.filter(|before| {
        before.reason.as_deref() == Some(wanted.reason)
            && before.message.as_deref() == Some(wanted.message.as_str())
    });
    let keep_update = same.filter(|_| wanted.kind != "Progressing" || !moved);
    let or_now = |time: Option<Time>| Some(time.unwrap_or(Time(now)));
    DeploymentCondition {
        type_: wanted.kind.into(),
        status: wanted.status.into(),
        reason: Some(wanted.reason.into()),
        message: Some(wanted.message),
        last_transition_time: or_now(same_status.and_then(|before| before.last_transition_time.clone())),
        last_update_time: or_now(keep_update.and_then(|before| before.last_update_time.clone())),
    }
}

/// When the progress deadline will pass if nothing moves.
pub(super) fn next_deadline(world: &World, status: &DeploymentStatus, now: Timestamp) -> Next {
    const AT_REST: [&str; 3] = ["NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused"];
    let deadline = world.deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    let progressing = status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let (Some(deadline), Some(progressing)) = (deadline, progressing) else { return Next::Wait };
    if progressing.reason.as_deref().is_none_or(|reason| AT_REST.contains(&reason)) {
        return Next::Wait;
    }
    let since = progressing.last_update_time.as_ref().map_or(now, |Time(at)| *at);
    let left = SignedDuration::from_secs(i64::from(deadline) + 1) - now.duration_since(since);
    Next::After(Duration::try_from(left).unwrap_or(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests;
