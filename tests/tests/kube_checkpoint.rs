//! A container is written down through the kubelet API, and another pod goes on from it. criu needs a kernel that it
//! knows: the virtual machine has one.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_tests::agent::{Agent, IMAGE};
use knarr_tests::bins;
use knarr_tests::criu::{can_work, image_of};
use knarr_tests::eventually::eventually;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// An emulated machine is slow.
const SOON: Duration = Duration::from_secs(150);
/// Its disk is smaller than what a node wants to have left, which would cost the image.
const SPACIOUS: &str = "eviction_hard = {}\nimage_gc_free_bytes = 0\nimage_gc_high_threshold_percent = 100";
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo count $i; sleep 0.5; done";

fn pod(agent: &Agent, name: &str, image: &str) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": image,
            "imagePullPolicy": "Never", "command": ["sh", "-c", COUNTER]}]}});
    std::fs::write(agent.path("manifests").join(format!("{name}.json")), pod.to_string()).unwrap();
}

/// How far the pod has counted, once it is beyond `number`.
fn until_beyond(agent: &Agent, name: &str, number: u64) -> u64 {
    let logs = agent.path("logs/pods");
    eventually(&format!("{name} counts on"), SOON, || match last_count(&logs, name) {
        now if now > number => Ok(now),
        now => Err(format!("{now}\n{}", agent.log())),
    })
}

fn last_count(logs: &Path, name: &str) -> u64 {
    let begins = format!("default_{name}-node_");
    let pods = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let texts = pods
        .filter(|pod| pod.file_name().to_string_lossy().starts_with(&begins))
        .map(|pod| std::fs::read_to_string(pod.path().join("main/0.log")).unwrap_or_default());
    let highest =
        |text: String| text.lines().filter_map(|line| line.rsplit_once("count ")?.1.parse().ok()).max();
    texts.filter_map(highest).max().unwrap_or(0)
}

/// What the kubelet API answers to a POST: the status and the text.
fn post(agent: &Agent, path: &str) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "-X", "POST", "-w", "\n%{http_code}", &agent.url(path)]);
    let said = bins::run(&mut curl).ok();
    let (text, status) = said.rsplit_once('\n').unwrap_or_default();
    (status.to_owned(), text.to_owned())
}

#[test]
fn a_pod_goes_on_from_what_the_kubelet_api_has_written_down() {
    if !can_work("a_pod_goes_on_from_what_the_kubelet_api_has_written_down") {
        return;
    }
    let mut agent = Agent::new("node", "", SPACIOUS);
    pod(&agent, "first", IMAGE);
    agent.start();
    until_beyond(&agent, "first", 2);
    let nobody = post(&agent, "/checkpoint/default/first-node/other");
    assert_eq!(nobody.0, "404", "{nobody:?}");
    let (status, text) = post(&agent, "/checkpoint/default/first-node/main?timeout=120");
    assert_eq!(status, "200", "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let archive = answer["items"][0].as_str().unwrap();
    let begins = agent.path("data/kubelet/checkpoints/checkpoint-first-node_default-main-");
    assert!(archive.starts_with(begins.to_str().unwrap()) && archive.ends_with(".tar"), "{text}");
    assert_eq!(std::fs::metadata(archive).unwrap().permissions().mode() & 0o777, 0o600);
    // It has only been looked at.
    let written_down = last_count(&agent.path("logs/pods"), "first");
    until_beyond(&agent, "first", written_down);

    image_of(&agent.path("layout"), Path::new(archive), "localhost/checkpoint:1", agent.command());
    std::fs::remove_file(agent.path("manifests/first.json")).unwrap();
    pod(&agent, "second", "localhost/checkpoint:1");
    let next = until_beyond(&agent, "second", written_down);
    assert!(next < written_down + 1000, "{written_down}, {next}");
}
