//! Revisions: every template that a Deployment has had keeps its ReplicaSet, with a number, so that
//! `kubectl rollout undo` can go back to it.

use super::{World, hash, rolling};
use crate::controllers::ownership;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of a revision, on sets and on the Deployment.
pub(super) const ANNOTATION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a set had before, oldest first.
const PAST: &str = "deployment.kubernetes.io/revision-history";
/// As much of them is kept, characters.
const PAST_LENGTH: usize = 2000;
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The ReplicaSet of the present template, with the next number.
pub(super) fn new_set(world: &World) -> ReplicaSet {
    let deployment = &world.deployment;
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let name = hash::of(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(hash::LABEL.into(), name.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(hash::LABEL.into(), name.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{name}", deployment.name_any())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations(world, next_number(world))),
            owner_references: Some(vec![ownership::controlled_by(&**deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(rolling::size_of_new_set(world)),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// New annotations for the current set, when its number is not the highest or the size changed.
pub(super) fn renumbered(world: &World, set: &ReplicaSet) -> Option<BTreeMap<String, String>> {
    let highest_old = world.old_sets.iter().filter_map(|old| number(old)).max().unwrap_or(0);
    let own = number(set).unwrap_or(0);
    let mut wanted = annotations(world, if own > highest_old { own } else { highest_old + 1 });
    if own != 0 && own <= highest_old {
        wanted.insert(PAST.into(), past(set, own));
    }
    wanted.iter().any(|(key, value)| set.annotations().get(key) != Some(value)).then_some(wanted)
}

/// The numbers that a set had, and the one that it gives up; the oldest are forgotten where they are too many.
fn past(set: &ReplicaSet, number: i64) -> String {
    let known = set.annotations().get(PAST).map_or("", String::as_str);
    let mut numbers: Vec<&str> = known.split(',').filter(|number| !number.is_empty()).collect();
    let number = number.to_string();
    numbers.push(&number);
    let length = |numbers: &[&str]| numbers.iter().map(|number| number.len() + 1).sum::<usize>() - 1;
    while length(&numbers) > PAST_LENGTH {
        numbers.remove(0);
    }
    numbers.join(",")
}

/// Old sets without pods beyond `revisionHistoryLimit`, oldest revision first.
pub(super) fn beyond_history(world: &World) -> Vec<Arc<ReplicaSet>> {
    let limit = world.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let empty = |set: &&Arc<ReplicaSet>| {
        let status = set.status.clone().unwrap_or_default();
        let unobserved = status.observed_generation < set.metadata.generation;
        rolling::replicas_of(set) == 0
            && status.replicas == 0
            && !unobserved
            && set.metadata.deletion_timestamp.is_none()
    };
    let mut old: Vec<Arc<ReplicaSet>> = world.old_sets.iter().filter(empty).cloned().collect();
    old.sort_by_key(|set| number(set));
    let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.truncate(excess);
    old
}

/// What a set remembers of the Deployment's size, for proportional scaling.
pub(super) fn size_annotations(world: &World) -> BTreeMap<String, String> {
    let replicas = world.replicas();
    let most = replicas + rolling::Limits::of(world).surge;
    [(DESIRED.to_owned(), replicas.to_string()), (MAXIMUM.to_owned(), most.to_string())].into()
}

/// The Deployment's size when this set was scaled last.
pub(super) fn desired_when_scaled(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED)?.parse().ok()
}

/// Most pods of the Deployment when this set was scaled last.
pub(super) fn most_when_scaled(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAXIMUM)?.parse().ok()
}

fn next_number(world: &World) -> i64 {
    world.old_sets.iter().filter_map(|set| number(set)).max().unwrap_or(0) + 1
}

fn number(set: &ReplicaSet) -> Option<i64> {
    set.annotations().get(ANNOTATION)?.parse().ok()
}

/// The Deployment's own annotations (without what only it needs), the number, the size.
fn annotations(world: &World, number: i64) -> BTreeMap<String, String> {
    let copied = world.deployment.annotations().iter().filter(|(key, _)| {
        let own = [LAST_APPLIED, ANNOTATION, DESIRED, MAXIMUM, PAST];
        !own.contains(&key.as_str())
    });
    let mut annotations: BTreeMap<String, String> =
        copied.map(|(key, value)| (key.clone(), value.clone())).collect();
    annotations.insert(ANNOTATION.into(), number.to_string());
    annotations.extend(size_annotations(world));
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_before_are_kept_as_far_as_they_fit() {
        let set = |past: &str| ReplicaSet {
            metadata: ObjectMeta {
                annotations: Some([(PAST.to_owned(), past.to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..ReplicaSet::default()
        };
        assert_eq!(past(&ReplicaSet::default(), 1), "1");
        assert_eq!(past(&set("1"), 3), "1,3");
        let many = vec!["1000"; 400].join(",");
        assert_eq!(past(&set(&many), 2000).len(), 399 * 5 + 4);
        assert!(past(&set(&many), 2000).ends_with(",2000"));
    }
}
