//! How pods end and how that is told: phases, conditions and back-offs as a kubelet writes them.

use crate::node::{Node, waiting};
use crate::simple;
use serde_json::json;

/// A pod whose probe is sent to another host.
pub(crate) fn start_redirected(node: &Node) {
    let answer = r"HTTP/1.0 302 Found\r\nLocation: http://0.0.0.0/\r\nContent-Length: 5\r\n\r\nthere";
    let mut pod = simple(node, &format!("while :; do printf '{answer}' | nc -l -p 8080; done"));
    pod["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1,
        "timeoutSeconds": 30, "failureThreshold": 1000});
    node.pod("redirected", pod);
}

/// Another host is not asked, and the container counts as well.
pub(crate) fn redirects_to_others_are_told(node: &Node) {
    node.ready("redirected");
    let text = "Readiness probe warning: Probe terminated redirects, Response body: there";
    node.event("redirected", "ProbeWarning", text);
}

/// What cannot be executed is tried again as what keeps ending is.
pub(crate) fn what_cannot_start_backs_off(node: &Node) {
    let pod = node.when("no-command", "it backs off", |pod| {
        waiting(&pod["status"]["containerStatuses"][0])["reason"] == "CrashLoopBackOff"
    });
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("StartError"), &json!(128)), "{last}");
    node.event("no-command", "BackOff", "Back-off restarting failed container c in pod no-command_default(");
}

/// A condition that holds says nothing of what once stood in its way.
pub(crate) fn conditions_that_hold_have_no_reason(node: &Node) {
    let pod = node.ready("probed");
    for condition in pod["status"]["conditions"].as_array().into_iter().flatten() {
        assert!(condition["reason"].is_null() && condition["message"].is_null(), "{condition}");
    }
}

/// Whoever watches a pod end sees how it ended.
pub(crate) fn deleted_pods_end_in_a_final_phase(node: &Node) {
    node.ready("watched");
    let watch = node.path("watched.log");
    let phases = ["get", "pod", "watched", "--watch", "-o", "jsonpath={.status.phase} "];
    let mut watcher = node.background(&phases, &watch);
    node.eventually("the watch has begun", || {
        let said = std::fs::read_to_string(&watch).unwrap_or_default();
        if said.contains("Running") { Ok(()) } else { Err(said) }
    });
    node.k(&["delete", "pod", "watched"]).ok();
    node.eventually("its last phase", || {
        let said = std::fs::read_to_string(&watch).unwrap_or_default();
        if said.trim_end().ends_with("Succeeded") { Ok(()) } else { Err(said) }
    });
    let _ended = (watcher.kill(), watcher.wait());
}

/// Whoever watches a pod whose image is changed sees no end of it, unless the next container takes a second to start.
pub(crate) fn another_image_leaves_the_pod_ready(node: &Node) {
    let pod = node.ready("reimaged");
    let image = pod["status"]["containerStatuses"][0]["imageID"].as_str().expect("an image").to_owned();
    let watch = node.path("reimaged.log");
    let ready = ".status.conditions[?(@.type=='Ready')]";
    let ended = ".status.containerStatuses[0].state.terminated.finishedAt";
    let shown = format!("jsonpath={{{ready}.status}} {{{ready}.lastTransitionTime}} {{{ended}}}{{'\\n'}}");
    let mut watcher = node.background(&["get", "pod", "reimaged", "--watch", "-o", &shown], &watch);
    let seen = || std::fs::read_to_string(&watch).unwrap_or_default();
    node.eventually("the watch has begun", || if seen().contains("True") { Ok(()) } else { Err(seen()) });
    node.k(&["set", "image", "pod/reimaged", &format!("c={image}")]).ok();
    node.when("reimaged", "the other image runs", |pod| {
        let container = &pod["status"]["containerStatuses"][0];
        container["restartCount"] == 1 && container["ready"] == true
    });
    node.event("reimaged", "Killing", "Container c definition changed, will be restarted");
    let _ended = (watcher.kill(), watcher.wait());
    for line in seen().lines().filter(|line| line.starts_with("False")) {
        let fields: Vec<&str> = line.split(' ').collect();
        assert!(fields[1] > fields[2] && !fields[2].is_empty(), "told at once: {}", seen());
    }
}
