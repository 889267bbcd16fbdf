//! A user's first day with a cluster, with unmodified kubectl: every command that README shows, what happens when
//! things are killed, and what is left behind (nothing).

use knarr_tests::bins::{self, Said};
use knarr_tests::cluster::{Cluster, kubectls};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const POD: &str = include_str!("../../examples/pod.yaml");
const WEB: &str = include_str!("../../examples/web.yaml");
const PATIENCE: Duration = Duration::from_secs(120);

fn contains(said: Said, wanted: &[&str]) -> String {
    let out = said.ok();
    for word in wanted {
        assert!(out.contains(word), "{word:?} is not in:\n{out}");
    }
    out
}

/// One pass through the commands, in the order of README.
fn first_day(cluster: &Cluster, kubectl: &Path) {
    let k = |arguments: &[&str]| cluster.kubectl(kubectl, arguments);
    let pod = cluster.manifest("pod.yaml", POD);
    let web = cluster.manifest("web.yaml", WEB);
    contains(k(&["get", "nodes", "-o", "wide"]), &["node", "Ready", "knarr://", "v1.33"]);
    contains(k(&["apply", "-f", &pod]), &["pod/hello created"]);
    contains(
        k(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=120s"]),
        &["pod/hello condition met"],
    );
    contains(
        k(&["get", "pods", "-o", "wide"]),
        &["NAME", "READY", "STATUS", "RESTARTS", "IP", "NODE", "1/1", "Running"],
    );
    // Several write events, each in its own time.
    let words = ["Scheduled", "Pulled", "Created", "Started", "PodScheduled", "QoS Class:", "Guaranteed"];
    eventually("all events", PATIENCE, || {
        let text = k(&["describe", "pod", "hello"]).ok();
        if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    });
    eventually("the first line of the log", PATIENCE, || {
        let text = k(&["logs", "hello"]).ok();
        if text == "hello serves on port 8080\n" { Ok(()) } else { Err(text) }
    });
    let ip = k(&["get", "pod", "hello", "-o", "jsonpath={.status.podIP}"]).ok();
    contains(
        bins::run(Command::new("curl").args(["-fsS", "--max-time", "30", &format!("http://{ip}:8080/")])),
        &["Hello from hello"],
    );
    contains(k(&["exec", "hello", "--", "cat", "/etc/hostname"]), &["hello"]);
    assert_eq!(k(&["exec", "hello", "--", "sh", "-c", "exit 7"]).code, 7, "the exit code of exec");
    // It speaks before kubectl can attach, and ends when the input (of none) has.
    let image = format!("--image={}", cluster.image("busybox:1"));
    let talk = ["--", "sh", "-c", "echo before; cat; echo after"];
    let talked = k(&[&["run", "talk", "--rm", "-i", "--restart=Never", &image], &talk[..]].concat());
    contains(talked, &["before\n", "after\n", "pod \"talk\" deleted"]);
    contains(k(&["apply", "-f", &pod]), &["pod/hello unchanged"]);
    contains(k(&["apply", "-f", &web]), &["deployment.apps/web created", "service/web created"]);
    contains(k(&["scale", "deployment", "web", "--replicas=3"]), &["deployment.apps/web scaled"]);
    contains(k(&["rollout", "status", "deployment", "web", "--timeout=120s"]), &["successfully rolled out"]);
    reaches_every_pod(&k);
    k(&["delete", "-f", &web]).ok();
    contains(k(&["delete", "pod", "hello"]), &["pod \"hello\" deleted"]);
    let gone = k(&["get", "pod", "hello"]).failed();
    assert!(gone.contains("pods \"hello\" not found"), "{gone}");
    eventually("all pods are gone", PATIENCE, || {
        let left = k(&["get", "pods", "-A", "-o", "name"]).ok();
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
}

/// The service's name resolves in a pod, and its address reaches each of three pods.
fn reaches_every_pod(k: &dyn Fn(&[&str]) -> Said) {
    let mut seen = std::collections::BTreeSet::new();
    eventually("every pod answers", PATIENCE, || {
        let said = k(&["exec", "hello", "--", "wget", "-qO-", "http://web/"]);
        if said.code == 0 {
            seen.insert(said.out.clone());
        }
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}, last {said:?}")) }
    });
}

#[test]
fn every_command_of_the_first_day_twice_and_nothing_is_left() {
    let kubectls = kubectls();
    let (Some(oldest), Some(newest)) = (kubectls.first(), kubectls.last()) else {
        return skip("kube_first_day", "no kubectl on this machine");
    };
    let mut cluster = Cluster::start();
    first_day(&cluster, newest);
    first_day(&cluster, oldest);
    cluster.down().ok();
    eventually("nothing is left", PATIENCE, || {
        let traces = cluster.traces();
        if traces.is_empty() { Ok(()) } else { Err(traces.join("\n")) }
    });
}

/// What must not change when the node agent is killed and comes back.
fn identity(cluster: &Cluster, kubectl: &Path) -> (String, String, String) {
    let one = |path: &str| {
        cluster.kubectl(kubectl, &["get", "pod", "hello", "-o", &format!("jsonpath={path}")]).ok()
    };
    // Field 22 is the start time of process 1: another process could not have the same.
    let started =
        cluster.kubectl(kubectl, &["exec", "hello", "--", "cut", "-d ", "-f1,22", "/proc/1/stat"]).ok();
    (
        one("{.status.containerStatuses[0].containerID}"),
        one("{.status.containerStatuses[0].restartCount}"),
        started,
    )
}

#[test]
fn pods_survive_kill_9_and_are_found_again() {
    let Some(kubectl) = kubectls().pop() else {
        return skip("kube_kill_9", "no kubectl on this machine");
    };
    let mut cluster = Cluster::start();
    let pod = cluster.manifest("pod.yaml", POD);
    cluster.kubectl(&kubectl, &["apply", "-f", &pod]).ok();
    cluster.kubectl(&kubectl, &["wait", "--for=condition=Ready", "pod/hello", "--timeout=120s"]).ok();
    cluster.kubectl(&kubectl, &["create", "configmap", "kept", "--from-literal=a=b"]).ok();
    let before = identity(&cluster, &kubectl);
    assert_eq!(before.1, "0");
    for _ in 0..2 {
        cluster.kill();
        cluster.up(&[]);
    }
    contains(cluster.kubectl(&kubectl, &["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]), &["b"]);
    let waited = cluster.kubectl(&kubectl, &["wait", "--for=condition=Ready", "pod/hello", "--timeout=120s"]);
    waited.ok();
    assert_eq!(identity(&cluster, &kubectl), before, "the same container, the same processes, no restart");
    contains(cluster.kubectl(&kubectl, &["logs", "hello"]), &["hello serves on port 8080"]);
    cluster.kubectl(&kubectl, &["delete", "pod", "hello"]).ok();
}

#[test]
fn bad_input_is_answered_where_the_user_looks() {
    let Some(kubectl) = kubectls().pop() else {
        return skip("kube_bad_input", "no kubectl on this machine");
    };
    let cluster = Cluster::start();
    let k = |arguments: &[&str]| cluster.kubectl(&kubectl, arguments);
    let unknown = cluster.manifest(
        "unknown.yaml",
        &POD.replace("hello:1", "nothing:1").replace("name: hello", "name: nothing"),
    );
    k(&["apply", "-f", &unknown]).ok();
    eventually("the pull fails", PATIENCE, || {
        let text = k(&["describe", "pod", "nothing"]).ok();
        let state = text.contains("ImagePullBackOff") || text.contains("ErrImagePull");
        if state && text.contains("Failed to pull image") { Ok(()) } else { Err(text) }
    });
    k(&["delete", "pod", "nothing"]).ok();
    let broken = cluster.manifest("broken.yaml", &POD.replace("containerPort", "containerPrt"));
    let refused = k(&["apply", "-f", &broken]).failed();
    assert!(refused.contains("unknown field") && refused.contains("containerPrt"), "{refused}");
    let invalid =
        cluster.manifest("invalid.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec: {}\n");
    let refused = k(&["create", "--validate=false", "-f", &invalid]).failed();
    assert!(refused.contains("spec.containers: Required value"), "{refused}");
    let second = cluster.knarr(&["up", "--listen", "127.0.0.1:0"]).failed();
    assert!(second.contains("is in use by knarr"), "{second}");
    let unknown = cluster.knarr(&["image", "pull", &cluster.image("nothing:1")]).failed();
    assert!(unknown.contains("nothing"), "{unknown}");
}

#[test]
fn a_container_without_a_daemon() {
    let cluster = Cluster::start();
    let busybox = cluster.image("busybox:1");
    cluster.knarr(&["image", "pull", &busybox]).ok();
    contains(cluster.knarr(&["image", "ls"]), &["IMAGE", "busybox"]);
    assert_eq!(cluster.knarr(&["run", "--rm", &busybox, "echo", "Hello world"]).ok(), "Hello world\n");
    assert_eq!(cluster.knarr(&["run", "--rm", &busybox, "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(cluster.knarr(&["run", "--rm", &busybox, "no-such-program"]).code, 127);
    let id = cluster.knarr(&["run", "-d", "--name", "one", &cluster.image("hello:1")]).ok();
    assert_eq!(id.trim().len(), 64, "{id}");
    contains(cluster.knarr(&["ps"]), &["one", "Up "]);
    let host = &id[..12];
    assert_eq!(cluster.knarr(&["exec", "one", "hostname"]).ok(), format!("{host}\n"));
    eventually("its log", PATIENCE, || {
        let text = cluster.knarr(&["logs", "one"]).ok();
        if text.contains(&format!("{host} serves on port 8080")) { Ok(()) } else { Err(text) }
    });
    assert!(cluster.knarr(&["rm", "one"]).failed().contains("is running"));
    cluster.knarr(&["stop", "one"]).ok();
    contains(cluster.knarr(&["ps", "-a"]), &["Exited (0)"]);
    cluster.knarr(&["rm", "one"]).ok();
    assert_eq!(cluster.knarr(&["ps", "-aq"]).ok(), "");
}

/// What was applied before may still be on its way out: merged into it, the new one would go with it.
#[test]
fn what_is_still_being_deleted_is_applied_anew_once_it_is_gone() {
    let mut cluster = Cluster::start();
    let Some(kubectl) = kubectls().pop() else {
        return skip("kube_apply_again", "no kubectl on this machine");
    };
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: held\n";
    let held = cluster.manifest("held.yaml", &format!("{manifest}  finalizers: [tests.knarr/hold]\n"));
    let free = cluster.manifest("free.yaml", &format!("{manifest}data:\n  of: \"the second\"\n"));
    cluster.kubectl(&kubectl, &["apply", "-f", &held]).ok();
    cluster.kubectl(&kubectl, &["delete", "configmap", "held", "--wait=false"]).ok();
    cluster.stop();
    cluster.up(&["--apply", &free]);
    let state = ["get", "configmap", "held", "-o", "jsonpath={.metadata.deletionTimestamp}/{.data.of}"];
    assert!(cluster.kubectl(&kubectl, &state).ok().ends_with("Z/"), "it waits, and nothing is merged");
    assert!(!cluster.log().contains("configmap/held"), "{}", cluster.log());
    cluster
        .kubectl(&kubectl, &["patch", "configmap", "held", "-p", r#"{"metadata":{"finalizers":null}}"#])
        .ok();
    eventually("the object is applied", PATIENCE, || {
        let log = cluster.log();
        if log.contains("configmap/held created") { Ok(()) } else { Err(log) }
    });
    assert_eq!(cluster.kubectl(&kubectl, &state).ok(), "/the second");
}
