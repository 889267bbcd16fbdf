//! Decisions as tables.

use super::*;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str, cpu: &str, extra: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}},
    });
    merge(&mut value, extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, cpu: &str, extra: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    });
    merge(&mut value, extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn decision(pod: &Pod, nodes: Vec<Arc<Node>>, bound: Vec<Arc<Pod>>) -> Decision {
    decide(pod, &Snapshot::new(nodes, bound, std::iter::empty()))
}

fn to(name: &str) -> Decision {
    Decision::Node(name.into())
}

#[test]
fn the_emptier_node_wins() {
    let nodes = vec![node("a", "2", json!({})), node("b", "2", json!({}))];
    let bound = vec![pod("x", "1", json!({"spec": {"nodeName": "a"}}))];
    assert_eq!(decision(&pod("p", "100m", json!({})), nodes, bound), to("b"));
}

#[test]
fn shortage_is_told_in_kubernetes_words() {
    let nodes = vec![node("a", "1", json!({})), node("b", "1", json!({}))];
    let Decision::None(message) = decision(&pod("p", "2", json!({})), nodes, vec![]) else {
        panic!("it fitted")
    };
    assert_eq!(
        message,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
}

#[test]
fn no_nodes_at_all() {
    let expected = Decision::None("no nodes available to schedule pods".into());
    assert_eq!(decision(&pod("p", "1", json!({})), vec![], vec![]), expected);
}

#[test]
fn taints_selectors_names_and_ports() {
    let nodes = || {
        vec![
            node(
                "a",
                "2",
                json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
            ),
            node("b", "2", json!({"metadata": {"labels": {"disk": "ssd"}}})),
            node("c", "2", json!({"spec": {"unschedulable": true}})),
        ]
    };
    let tolerating = json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"kubernetes.io/hostname": "a"}}});
    assert_eq!(decision(&pod("p", "1", tolerating), nodes(), vec![]), to("a"));
    assert_eq!(decision(&pod("p", "1", json!({})), nodes(), vec![]), to("b"));
    let port = |name: &str| json!({"spec": {"nodeName": name, "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let wants_port =
        json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let Decision::None(message) =
        decision(&pod("p", "1", wants_port), nodes(), vec![pod("x", "1", port("b"))])
    else {
        panic!("it fitted")
    };
    assert!(message.contains("1 node(s) didn't have free ports for the requested pod ports"), "{message}");
    assert!(message.contains("1 node(s) had untolerated taint {gpu: yes}"), "{message}");
    assert!(message.contains("1 node(s) were unschedulable"), "{message}");
}

#[test]
fn preferred_affinity_outweighs_a_small_difference() {
    let preference = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}},
    ]}}}});
    let nodes = vec![node("a", "4", json!({})), node("b", "2", json!({}))];
    assert_eq!(decision(&pod("p", "100m", preference), nodes, vec![]), to("b"));
}

#[test]
fn a_finished_pod_takes_no_room() {
    let done = pod("x", "2", json!({"spec": {"nodeName": "a"}, "status": {"phase": "Succeeded"}}));
    assert_eq!(decision(&pod("p", "2", json!({})), vec![node("a", "2", json!({}))], vec![done]), to("a"));
}
