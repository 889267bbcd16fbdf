//! One part in trouble: a runtime that hangs, a full log disk, a fork bomb, a monitor that dies. It delays and breaks
//! nothing but itself, and goes away when told to.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::bins;
use knarr_tests::census;
use knarr_tests::engine::{Engine, PATIENCE, container, file_holds, pod};
use knarr_tests::eventually::{answers, eventually};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the runtime does instead of creating.
const HANG: &str = "sleep 7654321";

#[tokio::test]
async fn a_runtime_that_hangs_delays_only_its_own_pod() {
    let scripts = tempfile::tempdir().unwrap();
    let script = scripts.path().join("hangs");
    let runtime = bins::find("knarr-runtime");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *' create '*) exec {HANG};; esac\nexec {} \"$@\"\n",
        runtime.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let keys = format!("runtimes = {{ hangs = \"{}\" }}", script.display());
    let mut engine = Engine::start_with(&keys, &[]).await;
    // Without a PID namespace of the pod: its init would be the first that the runtime has to create.
    let mut config = pod(&engine, "hangs");
    let own = NamespaceOption { pid: NamespaceMode::Container as i32, ..Default::default() };
    let security = LinuxSandboxSecurityContext { namespace_options: Some(own.clone()), ..Default::default() };
    config.linux = Some(LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() });
    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: "hangs".into() };
    let hung = engine.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let mut main = container("main", &["sleep", "1000"]);
    let security = LinuxContainerSecurityContext { namespace_options: Some(own), ..Default::default() };
    main.linux = Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() });
    let stuck = engine.create(&hung, &config, main).await.unwrap();
    let mut client = engine.client.clone();
    let starting = tokio::spawn({
        let stuck = stuck.clone();
        async move { client.start(&stuck).await }
    });
    answers("the runtime hangs", PATIENCE, || async {
        if commands().iter().any(|line| line.starts_with(HANG)) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let config = pod(&engine, "other");
    let other = engine.run_pod(&config).await.unwrap();
    let id = engine.run(&other, &config, container("main", &["sleep", "1000"])).await.unwrap();
    assert_eq!(engine.output(&id, "echo fine").await, "fine");
    engine.remove_pod(&other).await.unwrap();
    assert!(!starting.is_finished(), "it does hang");
    engine.remove_pod(&hung).await.unwrap();
    assert!(starting.await.unwrap().is_err());
    assert_eq!(engine.traces().pods, 0);
}

fn commands() -> Vec<String> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = numbers.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

/// A small file system of its own, until dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        bins::run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&path)).ok();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _said = bins::run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[tokio::test]
async fn a_full_log_disk_stops_no_container_and_logs_go_on_when_there_is_room() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "full");
    let _disk = SmallDisk::mount(PathBuf::from(&config.log_directory));
    let id = engine.run_pod(&config).await.unwrap();
    let line = "seq 1 200000; touch /done; while :; do [ ! -e /go ] || echo recovered; sleep 0.05; done";
    let main = engine.run(&id, &config, container("main", &["sh", "-c", line])).await.unwrap();
    answers("all is written, though nothing can be kept", PATIENCE, || async {
        let mut client = engine.client.clone();
        let answer = client.exec(&main, "test -e /done").await.map_err(|error| error.to_string())?;
        if answer.exit_code == 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let log = PathBuf::from(engine.status(&main).await.unwrap().log_path);
    let kept = std::fs::metadata(&log).unwrap().len();
    assert!(kept > 0 && kept <= 256 << 10, "{kept}");
    engine.exec(&main, "touch /go").await.unwrap();
    answers("what is said is kept as soon as there is room", PATIENCE, || async {
        let kept = std::fs::read_to_string(&log).unwrap_or_default();
        if kept.contains("recovered") {
            return Ok(());
        }
        if kept.len() > 128 << 10 {
            // Full, maybe once more: of what was on its way already.
            std::fs::remove_file(&log).unwrap();
            let request = ReopenContainerLogRequest { container_id: main.clone() };
            engine.runtime.clone().reopen_container_log(request).await.unwrap();
        }
        Err(format!("{} bytes are kept", kept.len()))
    })
    .await;
    engine.remove_pod(&id).await.unwrap();
}

/// The lab's own group where processes are counted, with a limit for what is below `name`.
fn limit_processes(engine: &Engine, name: &str, most: u32) -> PathBuf {
    let first = Path::new("/sys/fs/cgroup/pids");
    let root = if first.exists() { first } else { Path::new("/sys/fs/cgroup") };
    let group = root.join(engine.cgroup().trim_start_matches('/')).join(name);
    std::fs::create_dir_all(&group).unwrap();
    std::fs::write(group.join("pids.max"), most.to_string()).unwrap();
    group
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_pod_and_ends_with_it() {
    let mut engine = Engine::start().await;
    let group = limit_processes(&engine, "bomb", 60);
    let mut config = pod(&engine, "bomb");
    config.linux.as_mut().unwrap().cgroup_parent = format!("{}/bomb", engine.cgroup());
    let id = engine.run_pod(&config).await.unwrap();
    let bomb = "bomb() { bomb | bomb & }; while :; do bomb; done";
    let main = engine.run(&id, &config, container("main", &["sh", "-c", bomb])).await.unwrap();
    file_holds(engine.status(&main).await.unwrap().log_path.as_ref(), "can't fork");
    let other_config = pod(&engine, "other");
    let other = engine.run_pod(&other_config).await.unwrap();
    let calm = engine.run(&other, &other_config, container("main", &["sleep", "1000"])).await.unwrap();
    assert_eq!(engine.output(&calm, "echo fine").await, "fine");
    engine.stop_container(&main, 1).await.unwrap();
    assert_eq!(engine.ended(&main).await.state(), ContainerState::ContainerExited);
    engine.remove_pod(&id).await.unwrap();
    engine.remove_pod(&other).await.unwrap();
    eventually("its processes are gone", PATIENCE, || {
        let left = std::fs::read_to_string(group.join("pids.current")).unwrap_or_default();
        if ["0", ""].contains(&left.trim()) { Ok(()) } else { Err(left) }
    });
    // A pod's cgroup is its caller's, in every hierarchy.
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let bomb = format!("{}/bomb", engine.cgroup().trim_start_matches('/'));
        let _not_there = std::fs::remove_dir(hierarchy.path().join(bomb));
    }
}

#[tokio::test]
async fn when_a_monitor_dies_the_next_one_has_its_containers() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let id = engine.run_pod(&config).await.unwrap();
    let ticks = "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done";
    let plain = engine.run(&id, &config, container("plain", &["sh", "-c", ticks])).await.unwrap();
    let fed = ContainerConfig {
        stdin: true,
        ..container("fed", &["sh", "-c", "cat; echo fed no more; sleep 1000"])
    };
    let fed = engine.run(&id, &config, fed).await.unwrap();
    let tty = ContainerConfig { stdin: true, tty: true, ..container("tty", &["sh", "-c", "sleep 1000"]) };
    let tty = engine.run(&id, &config, tty).await.unwrap();
    let log = PathBuf::from(engine.status(&plain).await.unwrap().log_path);
    file_holds(&log, "tick 3");
    for (pid, _) in census::processes(&engine, "knarr-monitor") {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _with_the_first = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    // A terminal hangs up with who held its other end.
    assert_ne!(engine.ended(&tty).await.exit_code, 0);
    let fed_log = PathBuf::from(engine.status(&fed).await.unwrap().log_path);
    file_holds(&fed_log, "fed no more");
    for running in [&plain, &fed] {
        answers("it runs under the next monitor", PATIENCE, || async {
            let answer =
                engine.client.clone().exec(running, "true").await.map_err(|error| error.to_string())?;
            if answer.exit_code == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        assert_eq!(engine.status(running).await.unwrap().state(), ContainerState::ContainerRunning);
    }
    let so_far = std::fs::read_to_string(&log).unwrap().lines().count();
    file_holds(&log, &format!("tick {}", so_far + 5));
    engine.remove_pod(&id).await.unwrap();
    assert_eq!(engine.traces().pods, 0);
}

#[tokio::test]
async fn what_a_removed_container_leaves_goes_as_soon_as_it_can() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "busy");
    let sandbox = engine.run_pod(&config).await.unwrap();
    let sleeper = || container("main", &["sleep", "1000"]);
    let id = engine.run(&sandbox, &config, sleeper()).await.unwrap();
    // What somebody has mounted in its bundle cannot be removed.
    let held = SmallDisk::mount(engine.path("state/containers").join(&id).join("held"));
    engine.remove_container(&id).await.unwrap();
    assert_eq!(engine.status(&id).await.unwrap_err().code(), tonic::Code::NotFound);
    engine.run(&sandbox, &config, sleeper()).await.expect("its name is free");
    let error = engine.remove_pod(&sandbox).await.unwrap_err();
    assert!(error.message().contains("busy"), "{error}");
    engine.kill();
    engine.serve().await;
    assert_eq!(engine.status(&id).await.unwrap_err().code(), tonic::Code::NotFound);
    drop(held);
    engine.remove_pod(&sandbox).await.unwrap();
    engine.leaves_nothing();
}
