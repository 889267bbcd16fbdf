//! Whatever happens in whatever order, the snapshot holds what a fresh count of the same pods would.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn node(name: &str) -> Arc<Node> {
    let allocatable = json!({"cpu": "4", "memory": "4Gi", "pods": "10"});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}}))
            .unwrap(),
    )
}

fn pod(name: usize, cpu: usize, on: Option<&str>, phase: &str) -> Arc<Pod> {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": format!("{cpu}m")}},
        "ports": [{"containerPort": 1, "hostPort": name + 1}]});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name.to_string(), "namespace": "n"},
        "spec": {"containers": [container], "nodeName": on}, "status": {"phase": phase}}))
        .unwrap(),
    )
}

#[test]
fn an_assumed_pod_stays_until_the_api_agrees_or_refuses() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("a"));
    let (key, waiting) = (Key::new("n", "0"), pod(0, 100, None, "Pending"));
    snapshot.assume(&key, "a", waiting.clone());
    snapshot.pod_changed(&key, Some(&waiting));
    assert_eq!(snapshot.nodes["a"].requested.cpu, 100, "a status update of the unbound pod changes nothing");
    snapshot.forget(&key);
    assert_eq!(snapshot.nodes["a"].requested.cpu, 0);
    snapshot.assume(&key, "a", waiting);
    snapshot.pod_changed(&key, Some(&pod(0, 100, Some("a"), "Running")));
    snapshot.forget(&key);
    assert_eq!(snapshot.nodes["a"].requested.cpu, 100, "bound is bound");
}

proptest! {
    #[test]
    fn changes_add_up(steps in proptest::collection::vec((0..6_usize, 0..4_usize, 1..500_usize), 0..60)) {
        let names = ["a", "b", "absent"];
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("a"));
        let mut truth: BTreeMap<usize, Arc<Pod>> = BTreeMap::new();
        for (name, what, cpu) in steps {
            let key = Key::new("n", &name.to_string());
            let change = match what {
                3 => None,
                on => Some(pod(name, cpu, Some(names[on]), if cpu % 7 == 0 { "Succeeded" } else { "Running" })),
            };
            snapshot.pod_changed(&key, change.as_ref());
            match change {
                Some(pod) => truth.insert(name, pod),
                None => truth.remove(&name),
            };
            match cpu % 5 {
                0 => snapshot.set_node(node("b")),
                1 => snapshot.remove_node("b"),
                _ => {}
            }
        }
        snapshot.set_node(node("b"));
        for (name, state) in &snapshot.nodes {
            let mut fresh = NodeState::new(node(name));
            let here = truth.iter().filter(|(_, pod)| pods::node_of(pod) == Some(name) && !requests::is_finished(pod));
            here.for_each(|(at, pod)| fresh.place(Key::new("n", &at.to_string()), Arc::new(Placed::new(pod.clone()))));
            prop_assert_eq!(&state.requested, &fresh.requested);
            prop_assert_eq!(&state.scored, &fresh.scored);
            prop_assert_eq!(state.ports.len(), fresh.ports.len());
            prop_assert_eq!(state.pods.len(), fresh.pods.len());
        }
    }
}
