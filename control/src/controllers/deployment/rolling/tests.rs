//! Rollouts as tables, and the two promises of a rolling update as properties.

use super::super::World;
use super::*;
use k8s_openapi::api::apps::v1::Deployment;
use proptest::prelude::*;
use serde_json::json;

fn set(name: &str, replicas: i32, available: i32) -> Arc<ReplicaSet> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "availableReplicas": available},
        }))
        .unwrap(),
    )
}

fn world(
    replicas: i32,
    strategy: serde_json::Value,
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
) -> World {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {}, "strategy": strategy, "template": {}},
    }))
    .unwrap();
    World { deployment: Arc::new(deployment), new_set: new, old_sets: old }
}

fn sizes(steps: &[Step]) -> Vec<(String, i32)> {
    steps.iter().map(|step| (step.set.name_any(), step.replicas)).collect()
}

#[test]
fn percentages_round_surge_up_and_unavailable_down() {
    for (replicas, surge, unavailable) in [(3, 1, 0), (10, 3, 2), (1, 1, 0), (4, 1, 1)] {
        let limits = Limits::of(&world(replicas, json!({}), None, vec![]));
        assert_eq!(limits, Limits { surge, unavailable }, "{replicas} replicas");
    }
}

#[test]
fn a_rollout_of_three_goes_one_by_one() {
    let first = world(3, json!({}), Some(set("new", 0, 0)), vec![set("old", 3, 3)]);
    assert_eq!(sizes(&steps(&first, &[])), [("new".to_owned(), 1)]);
    let waiting = world(3, json!({}), Some(set("new", 1, 0)), vec![set("old", 3, 3)]);
    assert_eq!(sizes(&steps(&waiting, &[])), []);
    let ready = world(3, json!({}), Some(set("new", 1, 1)), vec![set("old", 3, 3)]);
    assert_eq!(sizes(&steps(&ready, &[])), [("old".to_owned(), 2)]);
}

#[test]
fn broken_old_pods_go_first() {
    let world = world(3, json!({}), Some(set("new", 1, 1)), vec![set("broken", 1, 0), set("old", 2, 2)]);
    assert_eq!(sizes(&steps(&world, &[])), [("broken".to_owned(), 0)]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let strategy = json!({"type": "Recreate"});
    let begin = world(2, strategy.clone(), Some(set("new", 0, 0)), vec![set("old", 2, 2)]);
    assert_eq!(sizes(&steps(&begin, &[])), [("old".to_owned(), 0)]);
    let dying: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "old", "uid": "old", "controller": true}]},
        "status": {"phase": "Running"},
    }))
    .unwrap();
    let drained = world(2, strategy, Some(set("new", 0, 0)), vec![set("old", 0, 0)]);
    assert_eq!(sizes(&steps(&drained, &[Arc::new(dying)])), []);
    assert_eq!(sizes(&steps(&drained, &[])), [("new".to_owned(), 2)]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_keeps_the_shares() {
    let world =
        world(20, json!({"rollingUpdate": {"maxSurge": 0}}), Some(set("new", 4, 4)), vec![set("old", 6, 6)]);
    let steps = proportional(&world);
    assert_eq!(steps.iter().map(|step| step.replicas).sum::<i32>(), 20);
}

proptest! {
    /// Whatever is ready at each moment, a rolling update never has too many pods nor takes away too many.
    #[test]
    fn a_rolling_update_keeps_its_promises(
        replicas in 1..12i32, surge in 0..4i32, unavailable in 0..4i32, ready in prop::collection::vec(0..=100u32, 60),
    ) {
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let (mut new, mut new_available, mut old, mut old_available) = (0, 0, replicas, replicas);
        for percent in ready {
            let world = world(replicas, strategy.clone(), Some(set("new", new, new_available)), vec![set("old", old, old_available)]);
            let limits = Limits::of(&world);
            for step in steps(&world, &[]) {
                if step.set.name_any() == "new" {
                    new = step.replicas;
                } else {
                    old_available -= (old - step.replicas) - (old - old_available).min(old - step.replicas);
                    old = step.replicas;
                }
            }
            prop_assert!(new + old <= replicas + limits.surge, "{new} new and {old} old of {replicas}");
            prop_assert!(new_available + old_available >= replicas - limits.unavailable, "{new_available}+{old_available}");
            new_available = new_available.max(new * i32::try_from(percent).unwrap() / 100).min(new);
        }
    }

    /// With everything ready at once it ends with the new set alone.
    #[test]
    fn a_rolling_update_ends(replicas in 0..12i32, surge in 0..4i32, unavailable in 0..4i32) {
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let (mut new, mut old) = (0, replicas);
        for _ in 0..100 {
            let world = world(replicas, strategy.clone(), Some(set("new", new, new)), vec![set("old", old, old)]);
            for step in steps(&world, &[]) {
                if step.set.name_any() == "new" { new = step.replicas } else { old = step.replicas }
            }
        }
        prop_assert_eq!((new, old), (replicas, 0));
    }
}
