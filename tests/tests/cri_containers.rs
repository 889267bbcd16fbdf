//! Containers through CRI, spec by spec of what a foreign conformance suite asks: attributes, exec, stats, logs,
//! volumes, propagation, idempotence, updates.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::engine::{Engine, PATIENCE, container, file_holds, pod};
use knarr_tests::eventually::answers;
use std::collections::HashMap;
use tonic::Code;

/// A pod with one running container.
async fn sleeper(engine: &mut Engine) -> (String, PodSandboxConfig, String) {
    let config = pod(engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let id = engine.run(&pod, &config, container("main", &["sleep", "1000"])).await.unwrap();
    (pod, config, id)
}

#[tokio::test]
async fn container_attributes_are_preserved_and_listed() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let mut wanted = container("main", &["sleep", "1000"]);
    wanted.labels = HashMap::from([("a".into(), "1".into())]);
    wanted.annotations = HashMap::from([("b".into(), "2 \u{e9}".into())]);
    let id = engine.create(&pod, &config, wanted.clone()).await.unwrap();
    let status = engine.status(&id).await.unwrap();
    assert_eq!((status.labels, status.annotations), (wanted.labels.clone(), wanted.annotations));
    assert!(status.created_at > 0 && status.started_at == 0);
    assert!(status.image_id.starts_with("sha256:"), "{}", status.image_id);
    let list = |filter| ListContainersRequest { filter: Some(filter) };
    let by = |state: Option<ContainerState>, labels: &[(&str, &str)]| ContainerFilter {
        state: state.map(|state| ContainerStateValue { state: state as i32 }),
        label_selector: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    };
    for (filter, found) in [
        (by(Some(ContainerState::ContainerCreated), &[("a", "1")]), 1),
        (by(Some(ContainerState::ContainerRunning), &[]), 0),
        (by(None, &[("a", "2")]), 0),
        (ContainerFilter { id: id[..12].to_owned(), ..Default::default() }, 1),
    ] {
        let listed = engine.runtime.list_containers(list(filter.clone())).await.unwrap().into_inner();
        assert_eq!(listed.containers.len(), found, "{filter:?}");
    }
    let missing = engine.status("no-such-container").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

/// What a driver has written about its devices, where drivers write it; gone when it is dropped.
struct Driver(std::path::PathBuf);

impl Driver {
    fn install(kind: &str) -> Driver {
        let one = serde_json::json!({"env": ["ONE=1"],
            "deviceNodes": [{"path": "/dev/example", "hostPath": "/dev/null"}],
            "mounts": [{"hostPath": "/proc/version", "containerPath": "/driver", "options": ["ro", "bind"]}]});
        let file = serde_json::json!({"cdiVersion": "0.6.0", "kind": kind,
            "containerEdits": {"env": ["ALL=all"]}, "devices": [{"name": "one", "containerEdits": one}]});
        std::fs::create_dir_all("/var/run/cdi").unwrap();
        let path = format!("/var/run/cdi/{}.json", kind.replace('/', "-"));
        std::fs::write(&path, file.to_string()).unwrap();
        Driver(path.into())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
        // Unless other drivers have something there.
        let _gone = std::fs::remove_dir("/var/run/cdi");
    }
}

#[tokio::test]
async fn devices_of_drivers_reach_the_containers_that_name_them() {
    let mut engine = Engine::start().await;
    let kind = format!("knarr-test-{}.example/device", std::process::id());
    let _driver = Driver::install(&kind);
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let with_device = |container_name: &str, device: &str| {
        let mut wanted = container(container_name, &["sleep", "1000"]);
        wanted.cdi_devices = vec![CdiDevice { name: format!("{kind}={device}") }];
        wanted
    };
    let id = engine.run(&pod, &config, with_device("main", "one")).await.unwrap();
    let script =
        "echo $ALL $ONE; grep -c Linux /driver; test -c /dev/example && echo x > /dev/example; echo $?";
    let answer = engine.exec(&id, script).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "all 1\n1\n0\n");
    // As kubelets before 1.28 ask.
    let mut annotated = container("annotated", &["sleep", "1000"]);
    annotated.annotations.insert("cdi.k8s.io/plugin".into(), format!("{kind}=one"));
    let id = engine.run(&pod, &config, annotated).await.unwrap();
    assert_eq!(engine.output(&id, "echo $ALL $ONE").await, "all 1");
    let refused = engine.create(&pod, &config, with_device("other", "two")).await.unwrap_err();
    let text = format!("CDI device injection failed: unresolvable CDI devices {kind}=two");
    assert!(refused.message().contains(&text), "{refused}");
}

#[tokio::test]
async fn exec_sync_answers_output_code_and_deadline() {
    let mut engine = Engine::start().await;
    let (_, _, id) = sleeper(&mut engine).await;
    let answer = engine.exec(&id, "echo out; echo err >&2; exit 3").await.unwrap();
    assert_eq!((&answer.stdout[..], &answer.stderr[..], answer.exit_code), (&b"out\n"[..], &b"err\n"[..], 3));
    let request = ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "sleep 4321 & sleep 4322"].map(str::to_owned).to_vec(),
        timeout: 1,
    };
    assert_eq!(engine.runtime.exec_sync(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    let left = engine.output(&id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 432[12]'").await;
    assert!(!left.contains("sleep 4321 ") && left.lines().count() <= 1, "{left}");
    let big = engine.exec(&id, "dd if=/dev/zero bs=1M count=20 2>/dev/null").await.unwrap();
    assert_eq!(big.stdout.len(), 16 << 20, "16 MiB are kept, the rest is dropped");
    let none = ExecSyncRequest { container_id: id, cmd: vec!["/no/such/program".into()], timeout: 10 };
    assert!(engine.runtime.exec_sync(none).await.is_err());
}

#[tokio::test]
async fn logs_have_their_format_and_are_reopened() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let line =
        "echo first; echo problem >&2; while [ ! -e /go ]; do sleep 0.05; done; echo second; sleep 1000";
    let id = engine.run(&pod, &config, container("main", &["sh", "-c", line])).await.unwrap();
    let log = std::path::PathBuf::from(engine.status(&id).await.unwrap().log_path);
    let text = file_holds(&log, "problem");
    for (line, stream) in text.lines().zip(["stdout", "stderr"]) {
        let fields: Vec<_> = line.splitn(4, ' ').collect();
        assert!(fields[0].contains('T') && fields[1] == stream && fields[2] == "F", "{line}");
    }
    let rotated = log.with_extension("log.20260101-000000");
    std::fs::rename(&log, &rotated).unwrap();
    let request = ReopenContainerLogRequest { container_id: id.clone() };
    engine.runtime.reopen_container_log(request.clone()).await.unwrap();
    engine.exec(&id, "touch /go").await.unwrap();
    assert!(!file_holds(&log, "second").contains("first"));
    assert!(!std::fs::read_to_string(&rotated).unwrap().contains("second"));
    let stop = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    engine.runtime.stop_container(stop).await.unwrap();
    assert!(engine.runtime.reopen_container_log(request).await.is_err(), "nobody writes it any more");
}

#[tokio::test]
async fn stopping_and_removing_twice_or_what_never_was_is_fine() {
    let mut engine = Engine::start().await;
    let (pod, _, id) = sleeper(&mut engine).await;
    for id in [id.as_str(), id.as_str(), "never"] {
        let request = StopContainerRequest { container_id: id.into(), timeout: 0 };
        engine.runtime.stop_container(request).await.unwrap();
    }
    let ended = engine.ended(&id).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    for id in [id.as_str(), id.as_str(), "never"] {
        engine.runtime.remove_container(RemoveContainerRequest { container_id: id.into() }).await.unwrap();
    }
    for id in [pod.as_str(), pod.as_str(), "never"] {
        engine.remove_pod(id).await.unwrap();
    }
    for image in ["never:1", "never:1"] {
        let image = Some(ImageSpec { image: image.into(), ..Default::default() });
        engine.images.remove_image(RemoveImageRequest { image }).await.unwrap();
    }
}

#[tokio::test]
async fn stats_are_of_running_containers_and_pass_filters() {
    let mut engine = Engine::start().await;
    let (pod_id, config, id) = sleeper(&mut engine).await;
    engine.create(&pod_id, &config, container("idle", &["true"])).await.unwrap();
    let request = ContainerStatsRequest { container_id: id.clone() };
    let stats = engine.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    assert!(stats.writable_layer.unwrap().fs_id.is_some());
    let all = ListContainerStatsRequest { filter: None };
    let listed = engine.runtime.list_container_stats(all).await.unwrap().into_inner().stats;
    assert_eq!(listed.len(), 1, "only what runs");
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod_id.clone() };
    let stats = engine.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    let linux = stats.linux.unwrap();
    assert_eq!(linux.network.unwrap().default_interface.unwrap().name, "eth0");
    assert!(linux.process.unwrap().process_count.unwrap().value >= 1);
}

#[tokio::test]
async fn every_metric_of_a_descriptor_has_its_labels() {
    let mut engine = Engine::start().await;
    let (pod_id, _, _) = sleeper(&mut engine).await;
    let request = ListMetricDescriptorsRequest {};
    let descriptors = engine.runtime.list_metric_descriptors(request).await.unwrap().into_inner().descriptors;
    let keys: HashMap<_, _> = descriptors.into_iter().map(|one| (one.name, one.label_keys)).collect();
    assert_eq!(keys.len(), 56);
    let request = ListPodSandboxMetricsRequest {};
    let metrics = engine.runtime.list_pod_sandbox_metrics(request).await.unwrap().into_inner().pod_metrics;
    let of_pod = metrics.into_iter().find(|metrics| metrics.pod_sandbox_id == pod_id).unwrap();
    let all: Vec<Metric> =
        of_pod.container_metrics.into_iter().flat_map(|one| one.metrics).chain(of_pod.metrics).collect();
    for metric in &all {
        assert_eq!(metric.label_values.len(), keys[&metric.name].len(), "{}", metric.name);
    }
    for name in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_network_receive_bytes_total",
        "container_processes",
        "container_start_time_seconds",
        "container_threads_max",
    ] {
        assert!(all.iter().any(|metric| metric.name == name), "{name} is missing");
    }
}

#[tokio::test]
async fn volumes_follow_links_and_a_missing_one_is_an_error() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    std::fs::create_dir(engine.path("volume")).unwrap();
    std::fs::write(engine.path("volume/file"), "content").unwrap();
    std::os::unix::fs::symlink(engine.path("volume"), engine.path("link")).unwrap();
    let mount = |name: &str, readonly: bool, options: &[&str]| Mount {
        container_path: "/data".into(),
        host_path: engine.path(name).display().to_string(),
        readonly,
        mount_options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Default::default()
    };
    let with = |name: &str, mount: Mount| ContainerConfig {
        mounts: vec![mount],
        ..container(name, &["sleep", "1000"])
    };
    let (missing, wrong) = (mount("missing", false, &[]), mount("volume", false, &["bogus"]));
    let linked = with("a", mount("link", true, &["noexec"]));
    let id = engine.run(&pod, &config, linked).await.unwrap();
    assert_eq!(engine.output(&id, "cat /data/file").await, "content");
    let mounted = engine.output(&id, "grep ' /data ' /proc/mounts").await;
    assert!(mounted.contains("noexec") && mounted.contains("ro,"), "{mounted}");
    let error = engine.create(&pod, &config, with("b", missing)).await.unwrap_err();
    assert!(error.message().contains("missing"), "{error}");
    let error = engine.create(&pod, &config, with("c", wrong)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("bogus"), "{error}");
}

#[tokio::test]
async fn limits_are_set_updated_and_enforced() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let limit = |bytes: i64, shares: i64| LinuxContainerResources {
        memory_limit_in_bytes: bytes,
        cpu_shares: shares,
        ..Default::default()
    };
    let linux = LinuxContainerConfig { resources: Some(limit(64 << 20, 512)), ..Default::default() };
    let limited = ContainerConfig { linux: Some(linux), ..container("main", &["sleep", "1000"]) };
    let id = engine.run(&pod, &config, limited).await.unwrap();
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(limit(32 << 20, 0)),
        ..Default::default()
    };
    engine.runtime.update_container_resources(request).await.unwrap();
    let resources = engine.status(&id).await.unwrap().resources.unwrap().linux.unwrap();
    assert_eq!((resources.memory_limit_in_bytes, resources.cpu_shares), (32 << 20, 512));
    let linux = LinuxContainerConfig { resources: Some(limit(15 << 20, 0)), ..Default::default() };
    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=40M"];
    let hungry = ContainerConfig { linux: Some(linux), ..container("hungry", &hungry) };
    let id = engine.run(&pod, &config, hungry).await.unwrap();
    let ended = engine.ended(&id).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
}

/// Also on a machine that cannot limit huge pages at all, or must not prefer a container to others.
#[tokio::test]
async fn what_a_kubelet_asks_for_every_container_is_accepted() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let none = |size: &str| HugepageLimit { page_size: size.into(), limit: 0 };
    let resources = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_shares: 2,
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 64 << 20,
        oom_score_adj: -997,
        hugepage_limits: vec![none("2MB"), none("1GB")],
        ..Default::default()
    };
    let linux = LinuxContainerConfig { resources: Some(resources.clone()), ..Default::default() };
    let main = ContainerConfig { linux: Some(linux), ..container("main", &["sleep", "1000"]) };
    let id = engine.run(&pod, &config, main).await.unwrap();
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources { cpu_shares: 20, ..resources }),
        ..Default::default()
    };
    engine.runtime.update_container_resources(request).await.unwrap();
    assert_eq!(engine.exec(&id, "true").await.unwrap().exit_code, 0);
}

#[tokio::test]
async fn events_tell_the_life_of_a_container() {
    let mut engine = Engine::start().await;
    let mut events = engine.runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let (pod, config, _) = sleeper(&mut engine).await;
    let id = engine.run(&pod, &config, container("short", &["true"])).await.unwrap();
    engine.ended(&id).await;
    use ContainerEventType::*;
    let mut next = async || loop {
        let event = tokio::time::timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap();
        if event.container_id == id {
            return event.container_event_type();
        }
    };
    for expected in [ContainerCreatedEvent, ContainerStartedEvent, ContainerStoppedEvent] {
        assert_eq!(next().await, expected);
    }
    // Not before its end is told: whoever removes it at once may hear of both in either order.
    engine.runtime.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
    assert_eq!(next().await, ContainerDeletedEvent);
}

#[tokio::test]
async fn a_killed_engine_finds_its_containers_again() {
    let mut engine = Engine::start().await;
    let (pod, config, id) = sleeper(&mut engine).await;
    let short = container("short", &["sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 7"]);
    let short = engine.run(&pod, &config, short).await.unwrap();
    engine.exec(&short, "(sleep 1; touch /go) >/dev/null 2>&1 &").await.unwrap();
    engine.kill();
    engine.serve().await;
    assert_eq!(engine.status(&id).await.unwrap().state(), ContainerState::ContainerRunning);
    assert_eq!(engine.ended(&short).await.exit_code, 7, "an exit that no engine saw");
    assert_eq!(engine.output(&id, "echo still here").await, "still here");
    engine.remove_pod(&pod).await.unwrap();
    let runtime = &engine.runtime;
    answers("nothing is listed", PATIENCE, || async {
        let request = ListContainersRequest { filter: None };
        let left = runtime.clone().list_containers(request).await.unwrap().into_inner().containers;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}
