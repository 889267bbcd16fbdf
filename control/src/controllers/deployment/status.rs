//! A Deployment's status: sums over its sets, and its conditions.

use super::{World, conditions, rolling};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use std::sync::Arc;

/// The status that this world makes; zeros are left out, as Go's omitempty does.
pub(super) fn of(world: &World, failure: Option<String>, now: Timestamp) -> DeploymentStatus {
    let sum =
        |count: fn(&ReplicaSetStatus) -> i32| world.all_sets().map(|set| of_set(set, count)).sum::<i32>();
    let replicas = sum(|status| status.replicas);
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let updated = world.new_set.as_ref().map_or(0, |set| of_set(set, |status| status.replicas));
    let wanted: i32 = world.all_sets().map(|set| rolling::replicas_of(set)).sum();
    let positive = |count: i32| Some(count).filter(|count| *count > 0);
    let mut status = DeploymentStatus {
        observed_generation: world.deployment.metadata.generation,
        replicas: positive(replicas),
        updated_replicas: positive(updated),
        ready_replicas: positive(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: positive(available),
        unavailable_replicas: positive(wanted - available),
        collision_count: world.deployment.status.as_ref().and_then(|status| status.collision_count),
        ..DeploymentStatus::default()
    };
    status.conditions = Some(conditions::of(world, &status, failure, now));
    status
}

/// Every pod is of the present template and available, and no old one is left.
pub(super) fn is_complete(world: &World) -> bool {
    let count =
        |count: fn(&ReplicaSetStatus) -> i32| world.all_sets().map(|set| of_set(set, count)).sum::<i32>();
    let wanted = world.replicas();
    let updated = world.new_set.as_ref().map_or(0, |set| of_set(set, |status| status.replicas));
    updated == wanted
        && count(|status| status.replicas) == wanted
        && count(|status| status.available_replicas.unwrap_or(0)) == wanted
}

fn of_set(set: &Arc<ReplicaSet>, count: fn(&ReplicaSetStatus) -> i32) -> i32 {
    set.status.as_ref().map_or(0, count)
}
