//! Who has to go, as tables.

use super::*;
use crate::scheduler::cycle::{self, Decision, Turn};
use crate::scheduler::score::Packing;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use serde_json::{Value, json};

fn node(name: &str) -> Arc<Node> {
    let allocatable = json!({"cpu": "2", "memory": "4Gi", "pods": "10"});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}}))
            .unwrap(),
    )
}

fn pod(name: &str, cpu: &str, priority: i32, on: Option<&str>, extra: Value) -> Arc<Pod> {
    let mut spec = json!({"priority": priority, "nodeName": on,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": name}}, "spec": spec}),
        )
        .unwrap(),
    )
}

fn budget(app: &str) -> Arc<PodDisruptionBudget> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": app, "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": 0,
        "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}))
        .unwrap(),
    )
}

/// `node: victims`, or the message.
fn outcome(wanted: &Pod, bound: &[Arc<Pod>], budgets: &[Arc<PodDisruptionBudget>]) -> String {
    let mut snapshot = Snapshot::default();
    ["a", "b"].iter().for_each(|name| snapshot.set_node(node(name)));
    bound.iter().for_each(|pod| snapshot.pod_changed(&Key::of(&**pod), Some(pod)));
    let decided = cycle::decide(wanted, Ok(&[]), None, &snapshot, Packing::default(), &mut Turn::default());
    let Decision::None(failure) = decided else { return "it fitted".into() };
    match find(wanted, &[], &snapshot, &failure, budgets) {
        Outcome::Victims { node, pods } => {
            let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
            format!("{node}: {}", names.join(" "))
        }
        Outcome::None(message) => message,
    }
}

#[test]
fn the_least_is_lost() {
    let wanted = pod("wanted", "1500m", 100, None, json!({}));
    let on =
        |name: &str, cpu: &str, priority: i32, node: &str| pod(name, cpu, priority, Some(node), json!({}));
    let cases = [
        (vec![on("x", "2", 10, "a"), on("y", "2", 20, "b")], "a: x"),
        (vec![on("x", "1", 10, "a"), on("z", "1", 10, "a"), on("y", "2", 10, "b")], "b: y"),
        (vec![on("x", "1900m", 10, "a"), on("small", "100m", 5, "a"), on("y", "2", 10, "b")], "a: x"),
        (vec![on("x", "2", 100, "a"), on("y", "2", 10, "b")], "b: y"),
    ];
    for (bound, expected) in cases {
        assert_eq!(outcome(&wanted, &bound, &[]), expected);
    }
}

#[test]
fn budgets_are_broken_last() {
    let wanted = pod("wanted", "2", 100, None, json!({}));
    let bound = [pod("x", "2", 10, Some("a"), json!({})), pod("y", "2", 20, Some("b"), json!({}))];
    assert_eq!(outcome(&wanted, &bound, &[budget("x")]), "b: y");
    assert_eq!(outcome(&wanted, &bound, &[budget("x"), budget("y")]), "a: x");
}

#[test]
fn messages() {
    let bound = [pod("x", "2", 100, Some("a"), json!({})), pod("y", "2", 100, Some("b"), json!({}))];
    let none = "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(outcome(&pod("p", "1", 100, None, json!({})), &bound, &[]), none);
    let fixed = pod("p", "1", 100, None, json!({"nodeSelector": {"no": "where"}}));
    assert_eq!(
        outcome(&fixed, &bound, &[]),
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let never = pod("p", "1", 200, None, json!({"preemptionPolicy": "Never"}));
    assert_eq!(outcome(&never, &bound, &[]), "preemption: not eligible due to preemptionPolicy=Never.");
}
