//! Room for a pod without which its node is nothing.

use crate::node::Node;
use crate::resizes::allocatable;
use crate::simple;
use serde_json::{Value, json};

/// Whoever has the room has to go.
pub(crate) fn critical_pods_drive_others_out(node: &Node) {
    let mut asks = simple(node, "sleep 1000");
    asks["nodeName"] = json!("node");
    asks["terminationGracePeriodSeconds"] = json!(1);
    let cpu = |milli: u32| json!({"requests": {"cpu": format!("{milli}m")}});
    asks["containers"][0]["resources"] = cpu(allocatable(node) - 700);
    node.pod("driven-out", asks.clone());
    node.ready("driven-out");
    asks["containers"][0]["resources"] = cpu(800);
    asks["priorityClassName"] = json!("system-node-critical");
    node.pod("critical", asks);
    let victim = node.when("driven-out", "it makes room", |pod| pod["status"]["phase"] == "Failed");
    let status = &victim["status"];
    let message = "Preempted in order to admit critical pod";
    assert_eq!((status["reason"].as_str(), status["message"].as_str()), (Some("Preempting"), Some(message)));
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let target = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget");
    let told = target.map(|target| (&target["reason"], &target["message"]));
    let said = Value::from("Pod was preempted by Kubelet to accommodate a critical pod.");
    assert_eq!(told, Some((&Value::from("TerminationByKubelet"), &said)), "{status:#}");
    node.event("driven-out", "Preempting", message);
    node.ready("critical");
    node.k(&["delete", "pod", "driven-out", "critical"]).ok();
}
