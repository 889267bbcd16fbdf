//! Other requests and limits for pods that run: in place, with a restart, or when there is room.

use crate::node::Node;
use crate::simple;
use serde_json::{Value, json};

pub(crate) fn resources_change_in_place(node: &Node) {
    let before = node.ready("given");
    let patch = |cpu: &str| {
        let resources =
            json!({"limits": {"cpu": cpu, "memory": "48Mi"}, "requests": {"cpu": cpu, "memory": "48Mi"}});
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}).to_string()
    };
    node.k(&["patch", "pod", "given", "--subresource=resize", "-p", &patch("300m")]).ok();
    let after = node.when("given", "it is resized", |pod| {
        pod["status"]["containerStatuses"][0]["resources"]["limits"]
            == json!({"cpu": "300m", "memory": "48Mi"})
    });
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&after), id(&before), "no restart");
    node.k(&["patch", "pod", "given", "--subresource=resize", "-p", &patch("1000")]).ok();
    node.when("given", "it cannot be resized", |pod| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible")
    });
}

/// Thousandths of processors that the node has for pods.
pub(crate) fn allocatable(node: &Node) -> u32 {
    let said = node.k(&["get", "node", "node", "-o", "jsonpath={.status.allocatable.cpu}"]).ok();
    let milli = match said.strip_suffix('m') {
        Some(milli) => milli.parse::<u32>(),
        None => said.parse::<u32>().map(|whole| whole * 1000),
    };
    milli.expect("an amount")
}

/// What others have is waited for, and granted when they end.
pub(crate) fn resizes_wait_for_room(node: &Node) {
    let milli = allocatable(node);
    let requests = |name: &str, cpu: u32| {
        let mut spec = simple(node, "sleep 1000");
        spec["nodeName"] = json!("node");
        // Objects of pods without a grace period go before their processes have.
        spec["terminationGracePeriodSeconds"] = json!(1);
        spec["containers"][0]["resources"] = json!({"requests": {"cpu": format!("{cpu}m")}});
        node.pod(name, spec);
        node.ready(name);
    };
    requests("grows", 100);
    requests("greedy", milli - 700);
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "600m"}}}]}});
    node.k(&["patch", "pod", "grows", "--subresource=resize", "-p", &patch.to_string()]).ok();
    let pending = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "PodResizePending").unwrap_or_default()
    };
    let allocated = |pod: &Value| pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"].clone();
    let waits = node.when("grows", "its resize is deferred", |pod| pending(pod)["reason"] == "Deferred");
    assert_eq!(allocated(&waits), "100m");
    let message = pending(&waits)["message"].clone();
    assert!(
        message.as_str().is_some_and(|text| text.starts_with("Node didn't have enough resource: cpu")),
        "{message}"
    );
    node.event("grows", "ResizeDeferred", "Node didn't have enough resource: cpu");
    node.k(&["delete", "pod", "greedy"]).ok();
    let granted = node.when("grows", "it is resized", |pod| allocated(pod) == "600m");
    assert!(pending(&granted).is_null(), "{granted}");
    node.k(&["delete", "pod", "grows"]).ok();
}

/// A container that has to be restarted for it finds the pod's own limits grown.
pub(crate) fn a_restart_grows_the_pod_too(node: &Node) {
    let resources = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "20m"}});
    let mut spec = simple(node, "sleep 1000");
    spec["containers"][0]["resources"] = resources("100m", "32Mi");
    spec["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    node.pod("regrown", spec);
    node.ready("regrown");
    let wanted = resources("300m", "64Mi");
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": wanted}]}});
    node.k(&["patch", "pod", "regrown", "--subresource=resize", "-p", &patch.to_string()]).ok();
    let after = node.when("regrown", "it runs with more", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["resources"]["limits"] == wanted["limits"] && status["ready"] == true
    });
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 1, "{after}");
    node.k(&["delete", "pod", "regrown"]).ok();
}

/// The pod's limits grow before those of its container and shrink after them, each for itself.
pub(crate) fn one_limit_grows_while_the_other_shrinks(node: &Node) {
    let resources = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "20m"}});
    let mut spec = simple(node, "sleep 1000");
    spec["containers"][0]["resources"] = resources("300m", "32Mi");
    node.pod("turned", spec);
    node.ready("turned");
    for wanted in [resources("100m", "64Mi"), resources("200m", "32Mi")] {
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": wanted}]}});
        node.k(&["patch", "pod", "turned", "--subresource=resize", "-p", &patch.to_string()]).ok();
        let after = node.when("turned", "it is resized", |pod| {
            pod["status"]["containerStatuses"][0]["resources"]["limits"] == wanted["limits"]
        });
        assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0, "{after}");
    }
    node.k(&["delete", "pod", "turned"]).ok();
}
