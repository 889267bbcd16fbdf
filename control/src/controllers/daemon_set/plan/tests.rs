//! Decisions of a daemon set as tables.

use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T01:00:00Z";

fn set(strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({"metadata": {"name": "d", "generation": 2}, "spec": {
        "selector": {}, "template": {"spec": {"containers": []}}, "updateStrategy": strategy}}))
    .unwrap()
}

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
}

/// `node:hash:state`, with the states ready, unready, failed, dying.
fn pod(text: &str) -> Arc<Pod> {
    let mut parts = text.split(':');
    let (node, hash, state) = (parts.next(), parts.next(), parts.next().unwrap());
    let ready = if state == "ready" { "True" } else { "False" };
    let phase = if state == "failed" { "Failed" } else { "Running" };
    let deleted = (state == "dying").then_some(NOW);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": text, "labels": {LABEL: hash}, "deletionTimestamp": deleted, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap(),
    )
}

/// `name` suits, `name!` does not, `name?` keeps what it has.
fn fit(text: &str) -> (String, Fit) {
    let name = text.trim_end_matches(['!', '?']).to_owned();
    (name, Fit { should_run: !text.ends_with(['!', '?']), may_stay: !text.ends_with('!') })
}

fn decide(strategy: Value, nodes: &[&str], pods: &[&str]) -> (Vec<String>, Vec<String>, DaemonSetStatus) {
    let set = set(strategy);
    let pods = pods.iter().map(|text| pod(text)).collect();
    let fits = nodes.iter().map(|text| fit(text)).collect();
    let world = World::new(&set, set.spec.as_ref().unwrap(), "new".into(), fits, pods, NOW.parse().unwrap());
    let plan = world.plan();
    (plan.create, plan.delete.iter().map(|pod| pod.name_any()).collect(), world.status())
}

#[test]
fn every_node_gets_what_it_should() {
    for (nodes, pods, create, delete) in [
        (&["a", "b"][..], &["a:new:ready"][..], &["b"][..], &[][..]),
        (&["a!", "b?"], &["a:new:ready", "b:new:ready"], &[], &["a:new:ready"]),
        (&["a"], &["a:new:dying"], &[], &[]),
        (&["a"], &["a:new:failed"], &[], &["a:new:failed"]),
        (&["a"], &["a:new:ready", "a:new:unready"], &[], &["a:new:unready"]),
        (&["a!"], &[], &[], &[]),
    ] {
        let (created, deleted, _) = decide(rolling(json!(1), json!(0)), nodes, pods);
        assert_eq!((created, deleted), (owned(create), owned(delete)), "{nodes:?} {pods:?}");
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn updates_keep_to_their_limits() {
    let nodes = ["a", "b", "c", "d"];
    let old = ["a:old:ready", "b:old:ready", "c:old:ready", "d:old:ready"];
    let half = ["a:new:unready", "b:old:ready", "c:old:unready", "d:old:ready"];
    for (strategy, pods, create, delete) in [
        (rolling(json!(1), json!(0)), old, &[][..], &["a:old:ready"][..]),
        (rolling(json!("50%"), json!(0)), old, &[], &["a:old:ready", "b:old:ready"]),
        (rolling(json!("30%"), json!(0)), old, &[], &["a:old:ready", "b:old:ready"]),
        (rolling(json!(1), json!(0)), half, &[], &["c:old:unready"]),
        (rolling(json!(0), json!(1)), old, &["a"], &[]),
        (json!({"type": "OnDelete"}), old, &[], &[]),
    ] {
        let (created, deleted, _) = decide(strategy.clone(), &nodes, &pods);
        assert_eq!((created, deleted), (owned(create), owned(delete)), "{strategy}");
    }
}

#[test]
fn a_surge_ends_when_the_new_pod_is_available() {
    let surge = || rolling(json!(0), json!(1));
    let (created, deleted, _) =
        decide(surge(), &["a", "b"], &["a:old:ready", "a:new:unready", "b:old:ready"]);
    assert_eq!((created, deleted), (vec![], vec![]));
    let (created, deleted, _) =
        decide(surge(), &["a", "b"], &["a:old:unready", "a:new:unready", "b:new:ready"]);
    assert_eq!((created, deleted), (vec![], owned(&["a:old:unready"])));
    let (created, deleted, _) = decide(surge(), &["a", "b"], &["a:old:ready", "a:new:ready", "b:old:ready"]);
    assert_eq!((created, deleted), (owned(&["b"]), owned(&["a:old:ready"])));
}

#[test]
fn a_surge_goes_on_where_pods_go() {
    let surge = |nodes: &[&str], pods: &[&str]| {
        let (created, deleted, _) = decide(rolling(json!(0), json!(1)), nodes, pods);
        (created, deleted)
    };
    // One that is deleted by hand is replaced at once.
    assert_eq!(surge(&["a"], &["a:new:dying"]), (owned(&["a"]), vec![]));
    // A node that is left keeps its pod until there are enough on others.
    assert_eq!(surge(&["a?", "b"], &["a:old:ready"]), (owned(&["b"]), vec![]));
    assert_eq!(surge(&["a?", "b"], &["a:old:ready", "b:new:unready"]), (vec![], vec![]));
    assert_eq!(surge(&["a?", "b"], &["a:old:ready", "b:new:ready"]), (vec![], owned(&["a:old:ready"])));
    assert_eq!(surge(&["a?", "b"], &["a:old:unready", "b:new:unready"]), (vec![], owned(&["a:old:unready"])));
}

#[test]
fn without_surge_the_oldest_of_two_stays() {
    for strategy in [json!({"type": "OnDelete"}), rolling(json!(1), json!(0))] {
        let (_, deleted, _) = decide(strategy, &["a"], &["a:new:ready", "a:old:ready"]);
        assert_eq!(deleted, ["a:old:ready"]);
    }
}

#[test]
fn a_rollout_is_done_when_the_old_pods_are_gone() {
    let status = |pods: &[&str]| {
        let (_, _, status) = decide(rolling(json!(0), json!(1)), &["a"], pods);
        (status.updated_number_scheduled, status.number_available)
    };
    // The younger one by its name.
    assert_eq!(status(&["a:1old:ready", "a:new:unready"]), (None, Some(1)));
    assert_eq!(status(&["a:1old:dying", "a:new:ready"]), (None, None));
    assert_eq!(status(&["a:new:ready"]), (Some(1), Some(1)));
}

#[test]
fn the_status_counts_nodes() {
    let pods = ["a:new:ready", "b:old:unready", "x:old:ready"];
    let (_, _, status) = decide(rolling(json!(1), json!(0)), &["a", "b", "c", "x?"], &pods);
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (3, 2));
    assert_eq!((status.number_misscheduled, status.number_ready), (1, 1));
    assert_eq!((status.number_available, status.number_unavailable), (Some(1), Some(2)));
    assert_eq!((status.updated_number_scheduled, status.observed_generation), (Some(1), Some(2)));
}
