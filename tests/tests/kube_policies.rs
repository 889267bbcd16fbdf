//! Network policies at a pod's first moment: what a program does first is judged like everything after it.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used)]

#[allow(dead_code)] // Shared with the tests of pods.
#[path = "kube_pods/node.rs"]
mod node;

use knarr_tests::skip::skip;
use node::Node;
use serde_json::{Value, json};

/// So many try it, each with its first instruction.
const TRIES: usize = 40;
/// At once: a busy node is slow to write its rules.
const AT_ONCE: usize = 10;

/// Connects with its first action; it ends well if it gets through.
fn client(node: &Node, server: &str) -> Value {
    // A first process does not hear the signal by which `timeout` ends it; and wget -T crashes in static busybox.
    let fetch = format!("busybox timeout 2 busybox wget -qO- http://{server}/ || exit 1");
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": node.busybox(), "command": ["sh", "-c", fetch]}]})
}

fn ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

#[test]
fn a_policy_holds_for_the_first_packet_of_a_new_pod() {
    let Some(mut node) = Node::start() else { return skip("kube_policies", "no kubectl on this machine") };
    let serve =
        json!(["sh", "-c", "mkdir -p /www && echo hello > /www/index.html && exec busybox httpd -f -h /www"]);
    node.pod(
        "server",
        json!({"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": node.busybox(), "command": serve}]}),
    );
    let server = node.ready("server")["status"]["podIP"].as_str().expect("an address").to_owned();
    let closed: Vec<String> = (0..TRIES).map(|n| format!("closed-{n}")).collect();
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed"},
        "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": closed}]},
            "policyTypes": ["Egress"]}});
    let file = node.path("policy.json");
    std::fs::write(&file, policy.to_string()).expect("a manifest");
    node.k(&["apply", "-f", &file.display().to_string()]).ok();
    let mut through = Vec::new();
    for (round, some) in closed.chunks(AT_ONCE).enumerate() {
        some.iter().for_each(|name| node.pod(name, client(&node, &server)));
        let open = format!("open-{round}");
        node.pod(&open, client(&node, &server));
        let phase = node.when(&open, "it has ended", ended)["status"]["phase"].clone();
        assert_eq!(phase, "Succeeded", "nothing forbids it: {open}");
        for name in some {
            let pod = node.when(name, "it has ended", ended);
            if pod["status"]["phase"] != "Failed" {
                through.push(name.clone());
            }
        }
        // The next agent has heard of no pod when the first ones start.
        if round == 1 {
            node.restart();
        }
    }
    assert!(through.is_empty(), "{} of {TRIES} got through: {through:?}", through.len());
    assert!(
        node.k(&["get", "events", "-o", "name", "--field-selector", "reason=NetworkPolicyNotReady"])
            .ok()
            .is_empty()
    );
}
