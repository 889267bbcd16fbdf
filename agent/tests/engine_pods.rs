//! The engine on the real kernel: pods and containers through the CRI traits, with real images, monitors, network and
//! an OCI runtime.
//!
//! The runtime is `knarr-runtime` from the build directory, or the program that `KNARR_TEST_RUNTIME` names.

// A test may panic, and so may what it is made of; clippy's own exception covers only the test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "engine_pods/lab.rs"]
mod lab;
#[path = "engine_pods/mounts.rs"]
mod mounts;
#[path = "engine_pods/network.rs"]
mod network;
#[path = "engine_pods/security.rs"]
mod security;

use knarr_cri::v1::*;
use knarr_cri::{Code, RuntimeService};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_lives_from_create_to_remove() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("life")).await.unwrap();
        let id = lab.create(&pod, lab.container("c", &["sh", "-c", "echo hello; sleep 1000"])).await.unwrap();
        assert_eq!(lab.status(&id).await.state(), ContainerState::ContainerCreated);
        lab.start(&id).await.unwrap();
        let status = lab.status(&id).await;
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        assert!(status.started_at >= status.created_at && status.created_at > 0);
        assert_eq!(lab.start(&id).await.unwrap_err().code(), Code::FailedPrecondition);
        let log = lab.path("logs/c.log");
        lab.eventually(async || {
            std::fs::read_to_string(&log).ok().filter(|log| log.contains("stdout F hello"))
        })
        .await;
        lab.stop(&id, 0).await;
        let status = lab.status(&id).await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
        assert_eq!(status.reason, "Error");
        let request = RemoveContainerRequest { container_id: id.clone() };
        lab.engine.remove_container(request.clone()).await.unwrap();
        lab.engine.remove_container(request).await.unwrap();
        let gone =
            lab.engine.container_status(ContainerStatusRequest { container_id: id, verbose: false }).await;
        assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_stopped_and_removed_already() {
    lab::with(async |lab| {
        let pod_sandbox_id = "no-such-pod".to_owned();
        let container_id = "no-such-container".to_owned();
        lab.engine
            .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
            .await
            .unwrap();
        lab.engine
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
            .await
            .unwrap();
        lab.stop(&container_id, 1).await;
        lab.engine
            .remove_container(RemoveContainerRequest { container_id: container_id.clone() })
            .await
            .unwrap();
        let status = PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
        assert_eq!(lab.engine.pod_sandbox_status(status).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(lab.start(&container_id).await.unwrap_err().code(), Code::NotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_may_use_its_grace() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("grace")).await.unwrap();
        let script = "trap 'exit 3' TERM; echo ready; while true; do sleep 0.1; done";
        let polite = lab.run(&pod, lab.container("polite", &["sh", "-c", script])).await;
        let log = lab.path("logs/polite.log");
        lab.eventually(async || std::fs::read_to_string(&log).ok().filter(|log| log.contains("ready"))).await;
        lab.stop(&polite, 10).await;
        assert_eq!(lab.status(&polite).await.exit_code, 3);
        let deaf = lab.run(&pod, lab.container("deaf", &["sh", "-c", "trap '' TERM; sleep 1000"])).await;
        let begun = Instant::now();
        lab.stop(&deaf, 1).await;
        assert!(begun.elapsed() >= Duration::from_secs(1));
        assert_eq!(lab.status(&deaf).await.exit_code, 137);
        lab.stop(&deaf, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_sync_answers_output_code_and_deadline() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("exec")).await.unwrap();
        let id = lab.run(&pod, lab.container("c", &["sleep", "1000"])).await;
        let answer = lab.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 5"]).await.unwrap();
        assert_eq!(
            (answer.stdout.as_slice(), answer.stderr.as_slice()),
            (b"out\n".as_slice(), b"err\n".as_slice())
        );
        assert_eq!(answer.exit_code, 5);
        let slow = ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", "sleep 4321"].map(str::to_owned).to_vec(),
            timeout: 1,
        };
        assert_eq!(lab.engine.exec_sync(slow).await.unwrap_err().code(), Code::DeadlineExceeded);
        let left = lab.exec(&id, &["pgrep", "-f", "sleep 4321"]).await.unwrap();
        assert_eq!(left.stdout, b"");
        let daemon = lab.exec(&id, &["sh", "-c", "echo left; sleep 1000 & "]).await.unwrap();
        assert_eq!(daemon.stdout, b"left\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_fails_the_start_and_leaves_its_message() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("bad")).await.unwrap();
        let id = lab.create(&pod, lab.container("c", &["/no/such/program"])).await.unwrap();
        let error = lab.start(&id).await.unwrap_err();
        assert!(error.message().contains("/no/such/program"), "{error}");
        let status = lab.status(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.contains("/no/such/program"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_engine_finds_the_same_processes_and_the_exits_it_missed() {
    lab::with(async |mut lab| {
        let pod = lab.run_pod(lab.pod("restart")).await.unwrap();
        let stays = lab.run(&pod, lab.container("stays", &["sleep", "1000"])).await;
        let ends = lab
            .run(
                &pod,
                lab.container("ends", &["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 9"]),
            )
            .await;
        let created = lab.create(&pod, lab.container("created", &["true"])).await.unwrap();
        let before = pid_of(&lab, &stays).await;
        lab.restart().await;
        assert_eq!(pid_of(&lab, &stays).await, before);
        lab.exec(&ends, &["touch", "/tmp/go"]).await.unwrap();
        let ended = lab.ended(&ends).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (9, "Error"));
        lab.restart().await;
        assert_eq!(lab.status(&ends).await.exit_code, 9);
        assert_eq!(lab.status(&created).await.state(), ContainerState::ContainerCreated);
        lab.start(&created).await.unwrap();
        assert_eq!(lab.ended(&created).await.reason, "Completed");
        lab.stop(&stays, 0).await;
        assert_eq!(lab.status(&stays).await.exit_code, 137);
    })
    .await;
}

async fn pid_of(lab: &lab::Lab, id: &str) -> i64 {
    let request = ContainerStatusRequest { container_id: id.into(), verbose: true };
    let info = lab.engine.container_status(request).await.unwrap().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    info["pid"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernels_oom_killer_is_named() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("oom")).await.unwrap();
        let mut config = lab.container("c", &["dd", "if=/dev/zero", "of=/dev/null", "bs=20M"]);
        config.linux.as_mut().unwrap().resources =
            Some(LinuxContainerResources { memory_limit_in_bytes: 15 << 20, ..Default::default() });
        let id = lab.run(&pod, config).await;
        let status = lab.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_pass_every_part_of_a_filter() {
    lab::with(async |lab| {
        let mut config = lab.pod("one");
        config.labels.insert("app".into(), "a".into());
        let one = lab.run_pod(config.clone()).await.unwrap();
        assert_eq!(lab.run_pod(config).await.unwrap(), one, "asking again answers the same pod");
        let two = lab.run_pod(lab.pod("two")).await.unwrap();
        lab.engine.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: two.clone() }).await.unwrap();
        let list = async |filter: PodSandboxFilter| {
            let request = ListPodSandboxRequest { filter: Some(filter) };
            let items = lab.engine.list_pod_sandbox(request).await.unwrap().items;
            items.into_iter().map(|item| item.id).collect::<Vec<_>>()
        };
        let state = |state: PodSandboxState| Some(PodSandboxStateValue { state: state as i32 });
        let label = |value: &str| [("app".to_owned(), value.to_owned())].into();
        assert_eq!(list(PodSandboxFilter::default()).await.len(), 2);
        assert_eq!(
            list(PodSandboxFilter { id: one[..13].into(), ..Default::default() }).await,
            [one.as_str()]
        );
        let ready = PodSandboxFilter { state: state(PodSandboxState::SandboxReady), ..Default::default() };
        assert_eq!(list(ready).await, [one.as_str()]);
        let stopped_a = PodSandboxFilter {
            state: state(PodSandboxState::SandboxNotready),
            label_selector: label("a"),
            ..Default::default()
        };
        assert_eq!(list(stopped_a).await, Vec::<String>::new());
        assert_eq!(
            list(PodSandboxFilter { label_selector: label("b"), ..Default::default() }).await.len(),
            0
        );
        let error = lab.create(&two, lab.container("c", &["true"])).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_set_up_leaves_nothing_and_frees_the_name() {
    lab::with(async |mut lab| {
        let mut broken = (*lab.config).clone();
        broken.monitor_binary = Some("/bin/false".into());
        let good = std::mem::replace(&mut lab.config, std::sync::Arc::new(broken));
        lab.restart().await;
        let error = lab.run_pod(lab.pod("p")).await.unwrap_err();
        assert!(error.message().contains("monitor"), "{error}");
        let left = std::fs::read_dir(lab.path("state/pods")).map_or(0, Iterator::count);
        assert_eq!(left, 0);
        lab.config = good;
        lab.restart().await;
        lab.run_pod(lab.pod("p")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_pods_are_not_ready_and_containers_have_exited() {
    lab::with(async |mut lab| {
        let pod = lab.run_pod(lab.pod("reboot")).await.unwrap();
        let id = lab.run(&pod, lab.container("c", &["sleep", "1000"])).await;
        for (kind, id) in [("sandboxes", &pod), ("containers", &id)] {
            let path = lab.path("data/engine").join(kind).join(format!("{id}.json"));
            let mut record: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            record["boot_id"] = "another boot".into();
            std::fs::write(&path, record.to_string()).unwrap();
        }
        lab.restart().await;
        let status = lab.status(&id).await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 255));
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod, verbose: false };
        let status = lab.engine.pod_sandbox_status(request).await.unwrap().status.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_changed_and_usage_is_told() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("limits")).await.unwrap();
        let mut config = lab.container("c", &["sleep", "1000"]);
        let resources = LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_shares: 512,
            ..Default::default()
        };
        config.linux.as_mut().unwrap().resources = Some(resources);
        let id = lab.run(&pod, config).await;
        let request = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() }),
            ..Default::default()
        };
        lab.engine.update_container_resources(request).await.unwrap();
        let limits = lab.status(&id).await.resources.unwrap().linux.unwrap();
        assert_eq!((limits.memory_limit_in_bytes, limits.cpu_shares), (32 << 20, 512));
        let stats =
            lab.engine.container_stats(ContainerStatsRequest { container_id: id.clone() }).await.unwrap();
        let memory = stats.stats.unwrap().memory.unwrap();
        assert!(memory.usage_bytes.unwrap().value > 0);
        assert!(memory.available_bytes.unwrap().value < 32 << 20);
        let all = lab.engine.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
        assert_eq!(all.stats.len(), 1);
        lab.stop(&id, 0).await;
        let none = lab.engine.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
        assert_eq!(none.stats.len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_hangs_delays_its_own_pod_only() {
    lab::with(async |lab| {
        assert_eq!(
            lab.run_pod_with("none", lab.pod("none")).await.unwrap_err().code(),
            Code::InvalidArgument
        );
        let slow = lab.run_pod_with("slow", lab.pod("slow")).await.unwrap();
        let hung = lab.create(&slow, lab.container("c", &["sleep", "1000"])).await.unwrap();
        let engine = lab.engine.clone();
        let request = StartContainerRequest { container_id: hung.clone() };
        let starting = tokio::spawn(async move { engine.start_container(request).await });
        let others = async {
            let pod = lab.run_pod(lab.pod("quick")).await.unwrap();
            let id = lab.run(&pod, lab.container("c", &["sleep", "1000"])).await;
            lab.stop(&id, 0).await;
            lab.engine.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod }).await.unwrap();
            lab.engine.list_containers(ListContainersRequest::default()).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(120), others).await.unwrap();
        assert!(!starting.is_finished());
        std::fs::write(lab.path("go"), "").unwrap();
        starting.await.unwrap().unwrap();
        assert_eq!(lab.status(&hung).await.state(), ContainerState::ContainerRunning);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_goes_away_is_done_all_the_same() {
    lab::with(async |lab| {
        let config = lab.pod("gone");
        drop(tokio::time::timeout(Duration::from_micros(1), lab.run_pod(config.clone())).await);
        let pod = lab.run_pod(config).await.unwrap();
        let listed = lab.engine.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().items;
        assert_eq!(listed.iter().map(|item| &item.id).collect::<Vec<_>>(), [&pod]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_made_by_many_at_once_makes_one_pod() {
    lab::with(async |lab| {
        for round in 0..10 {
            let config = lab.pod(&format!("many-{round}"));
            let calls = (0..8).map(|_| lab.run_pod(config.clone()));
            let ids: std::collections::BTreeSet<String> =
                futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(ids.len(), 1, "{ids:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_shared_init_dies_is_not_ready() {
    lab::with(async |lab| {
        let mut config = lab.pod("init");
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().pid = NamespaceMode::Pod as i32;
        let pod = lab.run_pod(config).await.unwrap();
        let mut container = lab.container("c", &["sleep", "1000"]);
        let security = container.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().pid = NamespaceMode::Pod as i32;
        let id = lab.run(&pod, container).await;
        let init =
            std::fs::read_to_string(format!("/proc/{}/task/{0}/status", pid_of(&lab, &id).await)).unwrap();
        assert!(init.lines().any(|line| line.starts_with("NSpid:") && !line.ends_with("\t1")), "{init}");
        let group = format!("/sys/fs/cgroup/pids/knarr-pods/{pod}/{pod}/cgroup.procs");
        let unified = format!("/sys/fs/cgroup/knarr-pods/{pod}/{pod}/cgroup.procs");
        let listed = std::fs::read_to_string(group).or_else(|_| std::fs::read_to_string(unified)).unwrap();
        let init = rustix::process::Pid::from_raw(listed.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
        assert_eq!(lab.ended(&id).await.exit_code, 137);
        lab.eventually(async || {
            let request = PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false };
            let status = lab.engine.pod_sandbox_status(request).await.unwrap().status.unwrap();
            (status.state() == PodSandboxState::SandboxNotready).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_speaks_cri_to_root_only() {
    lab::with(async |lab| {
        let socket = lab.path("cri.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (engine, path) = (lab.engine.clone(), socket.clone());
        let served = tokio::spawn(async move {
            knarr_agent::engine::serve_engine(engine, &path, async { drop(stopped.await) }).await
        });
        let mode = lab
            .eventually(async || {
                std::fs::metadata(&socket).ok().map(|metadata| metadata.permissions().mode() & 0o777)
            })
            .await;
        assert_eq!(mode, 0o600);
        let (runtime, images) = knarr_cri::client::connect(&format!("unix://{}", socket.display())).unwrap();
        let version = runtime.version(VersionRequest { version: "0.1.0".into() }).await.unwrap();
        assert_eq!((version.version.as_str(), version.runtime_name.as_str()), ("0.1.0", "knarr"));
        let status = runtime.status(StatusRequest { verbose: true }).await.unwrap();
        assert!(status.status.unwrap().conditions.iter().all(|condition| condition.status));
        assert_eq!(status.runtime_handlers.len(), 2);
        let listed = images.list_images(ListImagesRequest::default()).await.unwrap().images;
        assert_eq!(listed.len(), 1);
        let missing = ImageStatusRequest {
            image: Some(ImageSpec { image: "localhost/none:1".into(), ..Default::default() }),
            verbose: false,
        };
        assert_eq!(images.image_status(missing).await.unwrap().image, None);
        drop((runtime, images));
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
        assert!(!socket.exists());
    })
    .await;
}
