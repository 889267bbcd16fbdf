//! `memory_qos`: what pods request is protected and what nears its limit is slowed down, as the kernel sees it. Only cgroup
//! version 2 can; the virtual machine has it.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_tests::agent::{Agent, IMAGE};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An emulated machine is slow.
const SOON: Duration = Duration::from_secs(120);

fn mebi(count: u64) -> String {
    (count << 20).to_string()
}

/// The directories below one whose names begin so.
fn below(directory: &Path, beginning: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let fits = |path: &PathBuf| {
        path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
    };
    entries.map(|entry| entry.path()).filter(fits).collect()
}

/// `memory.min` and `memory.high` of a cgroup.
fn memory(cgroup: &Path) -> Result<(String, String), String> {
    let read = |file: &str| {
        let text = std::fs::read_to_string(cgroup.join(file));
        text.map(|text| text.trim().to_owned()).map_err(|error| format!("{}: {error}", cgroup.display()))
    };
    Ok((read("memory.min")?, read("memory.high")?))
}

/// Those of the only pod of a class, and of its container.
fn of_pod(class: &Path) -> Result<[(String, String); 2], String> {
    let pods = below(class, "pod");
    let pod = pods.first().ok_or_else(|| format!("no pod in {}", class.display()))?;
    let containers = below(pod, "");
    let container = containers.first().ok_or_else(|| format!("no container in {}", pod.display()))?;
    Ok([memory(pod)?, memory(container)?])
}

fn pod(agent: &Agent, name: &str, resources: serde_json::Value) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "hostNetwork": true, "containers": [{"name": "c", "image": IMAGE,
            "imagePullPolicy": "Never", "command": ["sleep", "1000"], "resources": resources}]}});
    let path = agent.path("manifests").join(format!("{name}.json"));
    std::fs::write(path, pod.to_string()).unwrap();
}

#[test]
fn memory_that_is_requested_is_protected_and_what_nears_its_limit_is_slowed_down() {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return skip("kube_memory", "the memory controller is not that of cgroup version 2");
    }
    // The disk of the virtual machine is smaller than what a node wants to have left, which would cost the image.
    let spacious = "eviction_hard = {}\nimage_gc_free_bytes = 0\nimage_gc_high_threshold_percent = 100";
    let mut agent = Agent::new("node", "", &format!("memory_qos = true\n{spacious}"));
    pod(&agent, "burstable", json!({"requests": {"memory": "16Mi"}, "limits": {"memory": "32Mi"}}));
    pod(&agent, "guaranteed", json!({"limits": {"memory": "8Mi", "cpu": "100m"}}));
    agent.start();
    let pods = agent.unified_cgroup().join("kubepods");
    let none = || "max".to_owned();
    // 16 MiB and nine tenths of the next 16, in whole pages.
    let high = (7782 * 4096).to_string();
    for (class, expected) in [
        (pods.join("burstable"), [(mebi(16), none()), (mebi(16), high)]),
        (pods.clone(), [(mebi(8), none()), (mebi(8), none())]),
    ] {
        eventually("a pod's files", SOON, || match of_pod(&class)? {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
    for (class, bytes) in [(pods.clone(), 24), (pods.join("burstable"), 16)] {
        eventually("a class's files", SOON, || match memory(&class)? {
            (min, _) if min == mebi(bytes) => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
}
