//! Checkpoints through CRI: the archive of a running container, and new containers that go on from it.
//!
//! criu needs a kernel that it knows (the virtual machine has one); what happens where it cannot work, hangs or is cut
//! short is tested everywhere.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::bins;
use knarr_tests::criu::{can_work, image_of};
use knarr_tests::engine::{Engine, PATIENCE, container, file_holds, pod};
use knarr_tests::eventually::eventually;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::{Code, Status};

/// Says how far it is, twice a second on a machine that is not emulated.
const COUNTER: &str =
    "rm /etc/group; echo kept > /tmp/kept; i=0; while :; do i=$((i+1)); echo count $i; sleep 0.5; done";

async fn checkpoint(engine: &mut Engine, id: &str, location: &str, timeout: i64) -> Result<(), Status> {
    let request = CheckpointContainerRequest { container_id: id.into(), location: location.into(), timeout };
    engine.runtime.checkpoint_container(request).await.map(drop)
}

/// A pod with a counter that has counted; the files it wrote and its log are its own.
async fn counting(engine: &mut Engine) -> (String, PodSandboxConfig, String) {
    let config = pod(engine, "first");
    let pod = engine.run_pod(&config).await.unwrap();
    let id = engine.run(&pod, &config, container("main", &["sh", "-c", COUNTER])).await.unwrap();
    file_holds(&engine.path("logs/first/main.log"), "count 3\n");
    (pod, config, id)
}

fn last_count(log: &Path) -> u64 {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let counts = text.lines().filter_map(|line| line.rsplit_once("count ")?.1.parse().ok());
    counts.max().unwrap_or(0)
}

fn until_beyond(log: &Path, number: u64) -> u64 {
    eventually("it counts on", PATIENCE, || match last_count(log) {
        now if now > number => Ok(now),
        now => Err(now.to_string()),
    })
}

/// What the archive holds.
fn unpacked(engine: &Engine, archive: &Path) -> PathBuf {
    let place = engine.path("unpacked");
    std::fs::create_dir_all(&place).unwrap();
    bins::run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&place)).ok();
    place
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn frozen(engine: &Engine, id: &str) -> bool {
    let mut state = Command::new(bins::find("knarr-runtime"));
    state.arg("--root").arg(engine.path("state/runtime/default")).args(["state", id]);
    let state: Value = serde_json::from_str(&bins::run(&mut state).ok()).unwrap();
    state["status"] == "paused"
}

#[tokio::test]
async fn a_counter_goes_on_counting_in_another_pod() {
    if !can_work("a_counter_goes_on_counting_in_another_pod") {
        return;
    }
    let mut engine = Engine::start().await;
    let (first, _, id) = counting(&mut engine).await;
    let archive = engine.path("checkpoint.tar");
    checkpoint(&mut engine, &id, archive.to_str().unwrap(), 0).await.unwrap();
    assert_eq!(std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
    let log = engine.path("logs/first/main.log");
    let written_down = last_count(&log);
    until_beyond(&log, written_down + 1);
    assert!(!frozen(&engine, &id));

    let parts = unpacked(&engine, &archive);
    for file in ["checkpoint/inventory.img", "rootfs-diff.tar", "dump.log", "stats-dump", "container.log"] {
        assert!(parts.join(file).exists(), "{file}");
    }
    let config = document(&parts.join("config.dump"));
    assert_eq!((&config["id"], &config["rootfsImageName"]), (&json!(id), &json!(knarr_tests::engine::IMAGE)));
    assert_eq!(document(&parts.join("spec.dump"))["process"]["args"][2], COUNTER);
    assert_eq!(document(&parts.join("status.dump"))["metadata"]["name"], "main");
    let written = bins::run(Command::new("tar").arg("-tf").arg(parts.join("rootfs-diff.tar"))).ok();
    assert!(written.contains("tmp/kept") && written.contains("etc/.wh.group"), "{written}");
    assert!(!written.contains("etc/hosts"), "a place that was made to mount at: {written}");

    engine.remove_pod(&first).await.unwrap();
    let config = pod(&engine, "second");
    let second = engine.run_pod(&config).await.unwrap();
    let mut again = container("main", &[]);
    again.image = Some(ImageSpec { image: archive.display().to_string(), ..Default::default() });
    let id = engine.run(&second, &config, again).await.unwrap();
    let log = engine.path("logs/second/main.log");
    let next = until_beyond(&log, written_down);
    assert!(next < written_down + 1000, "{written_down}, {next}");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("count 1\n"), "the old log goes before: {text}");
    assert_eq!(engine.exec(&id, "cat /tmp/kept; ls /etc/group").await.unwrap().stdout, b"kept\n");
    let status = engine.status(&id).await.unwrap();
    assert!(status.image_id.starts_with("sha256:") && status.state() == ContainerState::ContainerRunning);

    // A new engine finds it like any other.
    engine.kill();
    engine.serve().await;
    assert_eq!(engine.status(&id).await.unwrap().state(), ContainerState::ContainerRunning);
    let counted = last_count(&log);
    until_beyond(&log, counted);
    engine.stop_container(&id, 0).await.unwrap();
    assert_eq!(engine.status(&id).await.unwrap().exit_code, 137);
    engine.remove_pod(&second).await.unwrap();
    engine.leaves_nothing();
    assert_eq!(std::fs::read_dir(engine.path("data/engine/checkpoints")).unwrap().count(), 0);
}

async fn checkpoint_pod(engine: &mut Engine, pod: &str, place: &str, ids: &[&str]) -> Result<(), Status> {
    let request = CheckpointPodRequest {
        pod_sandbox_id: pod.into(),
        output_path: place.into(),
        container_ids: ids.iter().map(|&id| id.to_owned()).collect(),
        ..Default::default()
    };
    engine.runtime.checkpoint_pod(request).await.map(drop)
}

#[tokio::test]
async fn a_pod_goes_on_as_another_one() {
    if !can_work("a_pod_goes_on_as_another_one") {
        return;
    }
    let mut engine = Engine::start().await;
    let (first, config, _) = counting(&mut engine).await;
    engine.run(&first, &config, container("side", &["sh", "-c", COUNTER])).await.unwrap();
    file_holds(&engine.path("logs/first/side.log"), "count 1\n");
    let place = engine.path("pod").display().to_string();
    checkpoint_pod(&mut engine, &first, &place, &[]).await.unwrap();
    let mut written: Vec<_> = std::fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name()).collect();
    written.sort();
    assert_eq!(written, ["main.tar", "pod.dump", "side.tar"]);
    let written_down = last_count(&engine.path("logs/first/main.log"));
    until_beyond(&engine.path("logs/first/main.log"), written_down + 1);
    engine.remove_pod(&first).await.unwrap();

    let config = pod(&engine, "second");
    let request = RestorePodRequest {
        checkpoint_path: place,
        config: Some(config.clone()),
        container_configs: vec![container("side", &["sleep", "1"]), container("main", &["sleep", "1"])],
        ..Default::default()
    };
    let answer = engine.runtime.restore_pod(request).await.unwrap().into_inner();
    let names: Vec<_> = answer.restored_containers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["main", "side"]);
    for one in &answer.restored_containers {
        assert_eq!(engine.status(&one.container_id).await.unwrap().state(), ContainerState::ContainerCreated);
        let request = StartContainerRequest { container_id: one.container_id.clone() };
        engine.runtime.start_container(request).await.unwrap();
    }
    until_beyond(&engine.path("logs/second/main.log"), written_down);
    assert!(last_count(&engine.path("logs/second/side.log")) > 0);
    engine.remove_pod(&answer.pod_sandbox_id).await.unwrap();
    engine.leaves_nothing();
}

#[tokio::test]
async fn a_pod_that_cannot_be_written_down_or_gone_on_as_is_refused_by_name() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let first = engine.run_pod(&config).await.unwrap();
    let place = engine.path("dump").display().to_string();
    let none = checkpoint_pod(&mut engine, &first, &place, &[]).await.unwrap_err();
    assert!(none.message().contains("has no running containers"), "{none}");
    let id = engine.create(&first, &config, container("main", &["sleep", "1000"])).await.unwrap();
    let created = checkpoint_pod(&mut engine, &first, &place, &[&id]).await.unwrap_err();
    assert!(created.message().contains("is in CONTAINER_CREATED state"), "{created}");
    let unknown = checkpoint_pod(&mut engine, "none", &place, &[]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let relative = checkpoint_pod(&mut engine, &first, "dump", &[]).await.unwrap_err();
    assert_eq!(relative.code(), Code::InvalidArgument);
    assert!(!Path::new(&place).exists());

    let restore = |place: &Path, containers| RestorePodRequest {
        checkpoint_path: place.display().to_string(),
        config: Some(pod(&engine, "again")),
        container_configs: containers,
        ..Default::default()
    };
    let directory = engine.path("made-up");
    std::fs::create_dir(&directory).unwrap();
    let requests = [restore(&directory, vec![])];
    std::fs::write(directory.join("main.tar"), "nonsense").unwrap();
    let also = [
        restore(&directory, vec![container("other", &["true"])]),
        restore(&directory, vec![container("main", &["true"])]),
    ];
    let refused = engine.runtime.restore_pod(requests[0].clone()).await.unwrap_err();
    assert!(
        refused.message().contains("failed to read") && refused.message().contains("pod.dump"),
        "{refused}"
    );
    std::fs::write(directory.join("pod.dump"), r#"{"version": 1, "containers": ["main"]}"#).unwrap();
    for (request, words) in also.into_iter().zip(["has no container \"other\"", "unpacking of checkpoint"]) {
        let refused = engine.runtime.restore_pod(request).await.unwrap_err();
        assert!(refused.message().contains(words), "{refused}");
    }
    engine.remove_pod(&first).await.unwrap();
    engine.leaves_nothing();
}

#[tokio::test]
async fn an_image_that_holds_a_checkpoint_is_gone_on_from() {
    if !can_work("an_image_that_holds_a_checkpoint_is_gone_on_from") {
        return;
    }
    let mut engine = Engine::start().await;
    let (first, config, id) = counting(&mut engine).await;
    let archive = engine.path("checkpoint.tar");
    checkpoint(&mut engine, &id, archive.to_str().unwrap(), 60).await.unwrap();
    image_of(&engine.path("layout"), &archive, "localhost/checkpoint:1", engine.knarr());
    let written_down = last_count(&engine.path("logs/first/main.log"));
    engine.stop_container(&id, 0).await.unwrap();
    // In the same pod, as another container.
    let mut again = container("again", &[]);
    again.image = Some(ImageSpec { image: "localhost/checkpoint:1".into(), ..Default::default() });
    let again = engine.run(&first, &config, again).await.unwrap();
    until_beyond(&engine.path("logs/first/again.log"), written_down);
    engine.stop_container(&again, 0).await.unwrap();
    engine.remove_pod(&first).await.unwrap();
    engine.leaves_nothing();
}

#[tokio::test]
async fn what_cannot_be_written_down_or_gone_on_from_is_refused_by_name() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let id = engine.create(&pod, &config, container("main", &["sleep", "1000"])).await.unwrap();
    let archive = engine.path("checkpoint.tar").display().to_string();
    let refused = checkpoint(&mut engine, &id, &archive, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let words = "is in CONTAINER_CREATED state. only CONTAINER_RUNNING containers can be checkpointed";
    assert!(refused.message().contains(words), "{refused}");
    assert_eq!(checkpoint(&mut engine, "none", &archive, 0).await.unwrap_err().code(), Code::NotFound);
    for (location, timeout) in [("relative.tar", 0), ("", 0), (archive.as_str(), -1)] {
        let refused = checkpoint(&mut engine, &id, location, timeout).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{location:?} {timeout}");
    }

    std::fs::write(engine.path("nonsense"), "nonsense").unwrap();
    std::fs::create_dir_all(engine.path("empty/checkpoint")).unwrap();
    let empty = engine.path("empty.tar");
    bins::run(Command::new("tar").arg("-cf").arg(&empty).arg("-C").arg(engine.path("empty")).arg(".")).ok();
    for (name, words) in
        [("nonsense", "unpacking of checkpoint"), ("empty.tar", "config.dump"), ("none.tar", "not found")]
    {
        let mut wanted = container(&format!("from-{name}"), &[]);
        wanted.image =
            Some(ImageSpec { image: engine.path(name).display().to_string(), ..Default::default() });
        let refused = engine.create(&pod, &config, wanted).await.unwrap_err();
        assert!(refused.message().contains(words), "{name}: {refused}");
    }
    assert_eq!(std::fs::read_dir(engine.path("data/engine/checkpoints")).unwrap().count(), 0);
    engine.remove_pod(&pod).await.unwrap();
    engine.leaves_nothing();
}

/// The directory as an archive, named by its path as the image of a container, and why the engine takes it for none.
async fn refused(engine: &mut Engine, pod: &str, config: &PodSandboxConfig, directory: &Path) -> Status {
    let archive = directory.with_extension("tar");
    bins::run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(directory).arg(".")).ok();
    let name = directory.file_name().unwrap().to_str().unwrap();
    let mut wanted = container(name, &[]);
    wanted.image = Some(ImageSpec { image: archive.display().to_string(), ..Default::default() });
    engine.create(pod, config, wanted).await.unwrap_err()
}

/// What an archive of a checkpoint holds, so far as it is looked at before criu has it.
fn made_up(engine: &Engine, name: &str, base: &str) -> PathBuf {
    let directory = engine.path(name);
    std::fs::create_dir_all(directory.join("checkpoint")).unwrap();
    let config = json!({"id": "x", "name": "main", "rootfsImage": base, "rootfsImageName": base});
    std::fs::write(directory.join("config.dump"), config.to_string()).unwrap();
    std::fs::write(directory.join("spec.dump"), r#"{"ociVersion": "1.0.2", "process": {"cwd": "/"}}"#)
        .unwrap();
    directory
}

#[tokio::test]
async fn nothing_of_the_host_is_read_through_a_checkpoint() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    for (index, place) in
        ["container.log", "rootfs-diff.tar", "spec.dump", "checkpoint/pages-1.img"].iter().enumerate()
    {
        let directory = made_up(&engine, &format!("link-{index}"), knarr_tests::engine::IMAGE);
        let _ = std::fs::remove_file(directory.join(place));
        std::os::unix::fs::symlink("/etc/shadow", directory.join(place)).unwrap();
        let said = refused(&mut engine, &pod, &config, &directory).await;
        let name = Path::new(place).file_name().unwrap().to_str().unwrap();
        let words = format!("{name}: neither a file nor a directory");
        assert!(said.message().contains(&words), "{place}: {said}");
    }
    let directory = made_up(&engine, "pipe", knarr_tests::engine::IMAGE);
    bins::run(Command::new("mkfifo").arg(directory.join("container.log"))).ok();
    let said = refused(&mut engine, &pod, &config, &directory).await;
    assert!(said.message().contains("container.log: neither a file nor a directory"), "{said}");
    assert_eq!(std::fs::read_dir(engine.path("data/engine/checkpoints")).unwrap().count(), 0);
    engine.remove_pod(&pod).await.unwrap();
    engine.leaves_nothing();
}

#[tokio::test]
async fn a_checkpoint_gives_no_image_another_name() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let before = bins::run(engine.knarr().args(["image", "ls"])).ok();
    // A base that this node has not, called by a name that nobody serves.
    let directory = made_up(&engine, "stranger", "127.0.0.1:1/trusted:1");
    let said = refused(&mut engine, &pod, &config, &directory).await;
    assert!(said.message().contains("failed to get checkpoint base image 127.0.0.1:1/trusted:1"), "{said}");
    assert_eq!(bins::run(engine.knarr().args(["image", "ls"])).ok(), before);
    assert_eq!(std::fs::read_dir(engine.path("data/engine/checkpoints")).unwrap().count(), 0);
    engine.remove_pod(&pod).await.unwrap();
    engine.leaves_nothing();
}

/// A criu that says its process id and hangs. Its processes end with it.
struct Hanging(tempfile::TempDir);

impl Hanging {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("knarr-criu-").tempdir().unwrap();
        let script = format!("#!/bin/sh\necho $$ >> {}/pids\nexec sleep 1000\n", directory.path().display());
        // Written by a child, so that no process of this one holds it open for writing when it is executed.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &script]);
        bins::run(write.arg(directory.path().join("criu"))).ok();
        Self(directory)
    }

    /// A PATH on which it is found first.
    fn path(&self) -> String {
        format!("{}:{}", self.0.path().display(), std::env::var("PATH").unwrap())
    }
}

impl Hanging {
    fn end(&self) {
        let pids = std::fs::read_to_string(self.0.path().join("pids")).unwrap_or_default();
        for pid in pids.lines() {
            bins::run(Command::new("kill").args(["-9", pid]));
        }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_goes_on_when_criu_hangs_or_the_engine_dies() {
    let hanging = Hanging::new();
    let mut engine = Engine::start_with("", &[("PATH", &hanging.path())]).await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let id = engine.run(&pod, &config, container("main", &["sleep", "1000"])).await.unwrap();
    let archive = engine.path("checkpoint.tar").display().to_string();
    let late = checkpoint(&mut engine, &id, &archive, 1).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(!frozen(&engine, &id) && !Path::new(&archive).exists());

    let mut other = engine.client.clone();
    let (wanted, location) = (id.clone(), archive.clone());
    let asking = tokio::spawn(async move {
        let request = CheckpointContainerRequest { container_id: wanted, location, timeout: 0 };
        other.runtime.checkpoint_container(request).await.map(drop)
    });
    eventually("it is frozen", PATIENCE, || if frozen(&engine, &id) { Ok(()) } else { Err(String::new()) });
    engine.kill();
    assert!(asking.await.unwrap().is_err());
    engine.serve().await;
    // The runtime was not the engine's child alone: it ends with its criu, and then the next engine lets the container go on.
    hanging.end();
    eventually("it goes on", PATIENCE, || if frozen(&engine, &id) { Err(String::new()) } else { Ok(()) });
    assert_eq!(engine.exec(&id, "echo alive").await.unwrap().stdout, b"alive\n");
    eventually("nothing of it is left", PATIENCE, || {
        let left = std::fs::read_dir(engine.path("data/engine/checkpoints")).unwrap().count();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    });
    engine.remove_pod(&pod).await.unwrap();
    engine.leaves_nothing();
}
