//! What a deployment says of its progress, from the first set to the deadline.

use super::super::World;
use super::*;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use std::sync::Arc;

const NOW: &str = "2026-01-01T01:00:00Z";

/// The condition that a deployment of two replicas, with one set of so many pods, says next.
fn next(paused: bool, before: &Value, set: (&str, &str, i32)) -> (DeploymentCondition, Next) {
    let conditions = if before.is_null() { json!([]) } else { json!([before]) };
    let deployment = json!({
        "metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": 2, "selector": {}, "template": {}, "progressDeadlineSeconds": 600, "paused": paused},
        "status": {"conditions": conditions},
    });
    let (name, created, pods) = set;
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": created},
        "spec": {"replicas": 2, "selector": {}},
        "status": {"replicas": pods, "availableReplicas": pods},
    }))
    .unwrap();
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    let world =
        World { deployment: Arc::new(deployment), new_set: Some(Arc::new(set)), old_sets: Vec::new() };
    let now = NOW.parse().unwrap();
    let status = status::of(&world, None, now);
    let told = status.conditions.iter().flatten().find(|one| one.type_ == "Progressing").unwrap().clone();
    (told, next_deadline(&world, &status, now))
}

fn said(reason: &str, status: &str, message: &str, at: &str) -> Value {
    json!({"type": "Progressing", "status": status, "reason": reason, "message": message,
        "lastUpdateTime": at, "lastTransitionTime": at})
}

fn words(condition: &DeploymentCondition) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {}: {}", condition.status, text(&condition.reason), text(&condition.message))
}

const EARLIER: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:59:59Z";

#[test]
fn a_rollout_is_told_from_its_beginning() {
    let done =
        said("NewReplicaSetAvailable", "True", "ReplicaSet \"a\" has successfully progressed.", EARLIER);
    let late =
        said("ProgressDeadlineExceeded", "False", "ReplicaSet \"a\" has timed out progressing.", EARLIER);
    for (before, set, expected) in [
        (json!(null), ("a", LATER, 0), "True NewReplicaSetCreated: Created new replica set \"a\""),
        (json!(null), ("a", LATER, 1), "True ReplicaSetUpdated: ReplicaSet \"a\" is progressing."),
        (
            json!(null),
            ("a", LATER, 2),
            "True NewReplicaSetAvailable: ReplicaSet \"a\" has successfully progressed.",
        ),
        (done.clone(), ("b", LATER, 0), "True NewReplicaSetCreated: Created new replica set \"b\""),
        (
            json!(null),
            ("b", "2025-01-01T00:00:00Z", 0),
            "True FoundNewReplicaSet: Found new replica set \"b\"",
        ),
        // Gone back to.
        (
            done.clone(),
            ("b", "2025-01-01T00:00:00Z", 0),
            "True NewReplicaSetAvailable: ReplicaSet \"a\" has successfully progressed.",
        ),
        (
            late.clone(),
            ("a", EARLIER, 0),
            "False ProgressDeadlineExceeded: ReplicaSet \"a\" has timed out progressing.",
        ),
        (late.clone(), ("b", LATER, 0), "True NewReplicaSetCreated: Created new replica set \"b\""),
        // It was complete, and has lost its pods since.
        (
            done.clone(),
            ("a", EARLIER, 0),
            "True NewReplicaSetAvailable: ReplicaSet \"a\" has successfully progressed.",
        ),
    ] {
        assert_eq!(words(&next(false, &before, set).0), expected, "{set:?}");
    }
}

#[test]
fn a_rollout_that_never_begins_to_move_runs_out_of_time() {
    let created = |at: &str| said("NewReplicaSetCreated", "True", "Created new replica set \"a\"", at);
    let (waits, look) = next(false, &created("2026-01-01T00:55:00Z"), ("a", EARLIER, 0));
    assert_eq!(words(&waits), "True NewReplicaSetCreated: Created new replica set \"a\"");
    assert_eq!(look, Next::After(Duration::from_secs(301)));
    let (late, look) = next(false, &created(EARLIER), ("a", EARLIER, 0));
    assert_eq!(words(&late), "False ProgressDeadlineExceeded: ReplicaSet \"a\" has timed out progressing.");
    assert_eq!(look, Next::Wait);
}

#[test]
fn a_pause_does_not_count_as_time_in_which_nothing_moved() {
    let paused = said("DeploymentPaused", "Unknown", "Deployment is paused", EARLIER);
    let (rests, look) = next(true, &paused, ("a", EARLIER, 0));
    assert_eq!(
        (words(&rests).as_str(), look),
        ("Unknown DeploymentPaused: Deployment is paused", Next::Wait)
    );
    let (resumed, look) = next(false, &paused, ("a", EARLIER, 0));
    assert_eq!(words(&resumed), "Unknown DeploymentResumed: Deployment is resumed");
    assert_eq!(resumed.last_update_time, Some(Time(NOW.parse().unwrap())));
    assert_eq!(look, Next::After(Duration::from_secs(601)));
}

#[test]
fn a_set_that_was_refused_is_told() {
    let refused = "Failed to create new replica set \"a\": exceeded quota";
    let failing = |reason: &str| {
        let condition =
            json!({"type": "ReplicaFailure", "status": "True", "reason": reason, "message": "pods"});
        let set = json!({"metadata": {"name": "old"}, "spec": {"replicas": 1, "selector": {}},
            "status": {"replicas": 0, "conditions": [condition]}});
        Arc::new(serde_json::from_value::<ReplicaSet>(set).unwrap())
    };
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {}, "template": {},
        "progressDeadlineSeconds": 600}});
    let deployment: Arc<Deployment> = Arc::new(serde_json::from_value(deployment).unwrap());
    let world = World { deployment, new_set: None, old_sets: vec![failing("FailedDelete")] };
    let status = status::of(&world, Some(refused.to_owned()), NOW.parse().unwrap());
    let told: Vec<String> = status.conditions.iter().flatten().skip(1).map(words).collect();
    assert_eq!(
        told,
        [format!("False ReplicaSetCreateError: {refused}"), "True FailedDelete: pods".to_owned()]
    );
    let mut world = world;
    let mut deployment = (*world.deployment).clone();
    deployment.status = Some(status);
    world.deployment = Arc::new(deployment);
    let mut later = (*failing("FailedDelete")).clone();
    let conditions = later.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions[0].message = Some("other pods".to_owned());
    world.old_sets = vec![Arc::new(later)];
    let again = status::of(&world, Some(refused.to_owned()), NOW.parse().unwrap());
    assert_eq!(again.conditions, world.deployment.status.as_ref().unwrap().conditions, "first words stay");
    let before = said("ReplicaSetCreateError", "False", refused, EARLIER);
    let made = next(false, &before, ("a", LATER, 0)).0;
    assert_eq!(words(&made), "True NewReplicaSetCreated: Created new replica set \"a\"");
}
