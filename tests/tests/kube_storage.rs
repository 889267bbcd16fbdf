//! Volumes that other machines hold, with real servers: directories by NFS and disks by iSCSI. Both servers are the kernel's,
//! so they are on the same machine, and only the virtual machine has them (and nothing else to lose).
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

#[path = "kube_storage/exports.rs"]
mod exports;
#[path = "kube_storage/targets.rs"]
mod targets;

use knarr_tests::agent::{Agent, IMAGE};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// An emulated machine is slow.
const SOON: Duration = Duration::from_secs(150);
/// The disk of the virtual machine is smaller than what a node wants to have left, which would cost the image.
const SPACIOUS: &str = "eviction_hard = {}\nimage_gc_free_bytes = 0\nimage_gc_high_threshold_percent = 100";

/// Whether this machine is the disposable one, whose kernel has the server.
fn is_there(test: &str, sign: &str) -> bool {
    let there = std::env::var_os("KNARR_VM").is_some() && Path::new(sign).exists();
    if !there {
        skip("kube_storage", &format!("{test}: only in the virtual machine, whose kernel has {sign}"));
    }
    there
}

/// A pod that mounts one volume at `/v` and says what its script says.
fn pod(agent: &Agent, name: &str, volume: Value, script: &str) {
    let mut volume = volume;
    volume["name"] = json!("v");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "hostNetwork": true, "securityContext": {"fsGroup": 4321},
        "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [volume]}});
    std::fs::write(manifest(agent, name), pod.to_string()).unwrap();
}

fn manifest(agent: &Agent, name: &str) -> std::path::PathBuf {
    agent.path("manifests").join(format!("{name}.json"))
}

fn delete(agent: &Agent, name: &str) {
    std::fs::remove_file(manifest(agent, name)).unwrap();
}

/// Waits until the pod has said `words`.
fn says(agent: &Agent, name: &str, words: &str) {
    eventually(&format!("{name} says {words:?}"), SOON, || {
        let said = said(&agent.path("logs/pods"), name);
        if said.contains(words) { Ok(()) } else { Err(said) }
    });
}

/// Everything that a pod has said.
fn said(logs: &Path, name: &str) -> String {
    let mut said = String::new();
    let begins = format!("default_{name}-node_");
    for pod in std::fs::read_dir(logs).into_iter().flatten().flatten() {
        if pod.file_name().to_string_lossy().starts_with(&begins) {
            for log in std::fs::read_dir(pod.path().join("c")).into_iter().flatten().flatten() {
                said += &std::fs::read_to_string(log.path()).unwrap_or_default();
            }
        }
    }
    said
}

/// Waits until so many mounts in the agent's directory are of this type and options.
fn mounts(agent: &Agent, kind: &str, count: usize) {
    let directory = agent.path("data/kubelet").display().to_string();
    eventually(&format!("{count} mounts of {kind}"), SOON, || {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let found: Vec<&str> = table
            .lines()
            .filter(|line| line.contains(&directory) && line.split(' ').nth(2) == Some(kind))
            .collect();
        if found.len() == count { Ok(()) } else { Err(format!("{found:#?}")) }
    });
}

/// What a shell script says; the machine is ours.
fn sh(script: &str) -> String {
    let said = knarr_tests::bins::run(std::process::Command::new("sh").args(["-ec", script])).ok();
    said.trim_end().to_owned()
}

#[test]
fn directories_of_a_server_are_mounted_and_let_go_of() {
    if is_there("nfs", "/sys/module/nfsd") {
        exports::directories_of_a_server_are_mounted_and_let_go_of();
    }
}

#[test]
fn disks_of_a_target_are_formatted_shared_and_let_go_of() {
    if is_there("iscsi", "/sys/module/iscsi_target_mod") {
        targets::disks_of_a_target_are_formatted_shared_and_let_go_of();
    }
}
