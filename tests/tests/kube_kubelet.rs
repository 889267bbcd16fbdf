//! The same pods on a kubelet and on us, as nodes of one API server: what `status` says in the end and which events there
//! are must be the same, word for word. The pods are in `tests/cases/pods.json`; what may differ is in `told.rs`.
//!
//! Runs where `kube-apiserver` and `kubelet` are on PATH (they are no Debian packages); elsewhere a named skip.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used, clippy::print_stderr)]

#[path = "kube_kubelet/kubelet.rs"]
mod kubelet;
#[allow(dead_code)] // Shared with the test of our agent alone, which uses all of it.
#[path = "kube_apiserver/plane.rs"]
mod plane;
#[path = "kube_kubelet/told.rs"]
mod told;

use knarr_tests::agent::{Agent, IMAGE};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use kubelet::Kubelet;
use plane::{Plane, on_path};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(150);
const CASES: &str = include_str!("../cases/pods.json");
/// The nodes, each with the pods of the namespace of its name: a kubelet, and us.
const THEIRS: &str = "theirs";
const OURS: &str = "ours";

#[test]
fn a_kubelet_tells_the_same_of_the_same_pods() {
    let Some(program) = on_path("kubelet") else {
        return skip("kube_kubelet", "no kubelet on PATH");
    };
    let Some(plane) = Plane::start() else {
        return skip("kube_kubelet", "no kube-apiserver, etcd or kubectl on PATH");
    };
    let credentials = plane.kubeconfig("admin");
    let kubelet = Kubelet::start(&program, THEIRS, &credentials);
    let mut agent = Agent::new(OURS, &credentials, "");
    agent.start();
    for node in [THEIRS, OURS] {
        is_ready(&plane, node, &kubelet);
        plane.k(&["create", "namespace", node]).ok();
        plane.k(&["create", "serviceaccount", "default", "-n", node]).ok();
        plane.create(&pods(node));
    }
    let cases: Vec<Value> = serde_json::from_str(CASES).expect("pods");
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        eventually(&format!("{name} is told of alike"), PATIENCE, || {
            let [theirs, ours] = [THEIRS, OURS].map(|node| told::of(&plane, node, name));
            let differences = told::differences(&theirs, &ours);
            if differences.is_empty() { Ok(()) } else { Err(differences) }
        });
    }
    for node in [THEIRS, OURS] {
        plane.k(&["delete", "pods", "--all", "-n", node, "--wait=false"]).ok();
    }
    eventually("no pod is left", PATIENCE, || {
        let left = plane.get(&["pods", "-A"])["items"].as_array().map_or(0, Vec::len);
        if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
    });
}

fn is_ready(plane: &Plane, node: &str, kubelet: &Kubelet) {
    eventually(&format!("{node} is ready"), PATIENCE, || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let said = plane.k(&["get", "node", node, "-o", ready]);
        if said.out == "True" { Ok(()) } else { Err(format!("{said:?}\n{}", kubelet.log())) }
    });
}

/// Every pod for one node, as one list.
fn pods(node: &str) -> Value {
    let cases: Vec<Value> = serde_json::from_str(CASES).expect("pods");
    let pods = cases.into_iter().map(|case| {
        let mut spec = case["spec"].clone();
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container["image"].is_null() {
                    container["image"] = json!(IMAGE);
                    container["imagePullPolicy"] = json!("IfNotPresent");
                }
            }
        }
        spec["nodeName"] = json!(node);
        spec["automountServiceAccountToken"] = json!(false);
        spec["tolerations"] = json!([{"operator": "Exists"}]);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": case["name"], "namespace": node},
            "spec": spec})
    });
    json!({"apiVersion": "v1", "kind": "List", "items": pods.collect::<Vec<_>>()})
}
