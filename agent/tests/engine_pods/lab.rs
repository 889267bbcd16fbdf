//! An engine of its own with an image of busybox: state in a temporary directory, names nobody else has.

use futures_util::FutureExt;
use knarr_agent::config::Config;
use knarr_agent::engine::Engine;
use knarr_agent::engine::monitors::UnixMonitors;
use knarr_agent::engine::network::bridge::BridgeNetwork;
use knarr_cri::v1::*;
use knarr_cri::{RuntimeService, Status};
use knarr_images::{ImageStore, ImportConfig};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) const IMAGE: &str = "localhost/busybox:test";

/// Applets that images of tests need; `ls` is a file of its own because a test masks it.
const APPLETS: [&str; 24] = [
    "sh", "sleep", "cat", "echo", "ls", "id", "dd", "touch", "mkdir", "hostname", "pgrep", "ps", "mount",
    "grep", "wget", "httpd", "nc", "ip", "kill", "true", "env", "stat", "stty", "tty",
];

pub(crate) struct Lab {
    pub(crate) engine: Arc<Engine>,
    pub(crate) config: Arc<Config>,
    pub(crate) images: ImageStore,
    root: Arc<tempfile::TempDir>,
}

/// Runs a test in a lab and takes everything down afterwards, also when it fails.
pub(crate) async fn with(test: impl AsyncFnOnce(Lab)) {
    let lab = Lab::new().await;
    let (config, images, root) = (lab.config.clone(), lab.images.clone(), lab.root.clone());
    let outcome = AssertUnwindSafe(test(lab)).catch_unwind().await;
    // A new engine recovers and removes whatever the test has left, so every test ends with a recovery.
    let engine = start(&config, &images).await;
    let errors = engine.remove_all().await;
    let leftovers = leftovers(root.path());
    knarr_agent::engine::network::PodNetwork::remove_all(&*BridgeNetwork::new(config).unwrap())
        .await
        .unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(leftovers, Vec::<String>::new());
}

async fn start(config: &Arc<Config>, images: &ImageStore) -> Arc<Engine> {
    let network = BridgeNetwork::new(config.clone()).unwrap();
    let monitors = Arc::new(UnixMonitors::new(config.clone()));
    Engine::start(config.clone(), images.clone(), network, monitors).await.unwrap()
}

/// Mounts and directories of pods that should be gone.
fn leftovers(root: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(root.to_str().unwrap())).map(str::to_owned);
    let below = |directory: &str| {
        let entries = std::fs::read_dir(root.join(directory)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path().display().to_string()).collect::<Vec<_>>()
    };
    let records = ["data/engine/sandboxes", "data/engine/containers", "state/pods", "state/containers"];
    mounts.chain(records.into_iter().flat_map(below)).collect()
}

impl Lab {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = std::process::id() % 10_000;
        let root = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config {
            data_dir: root.path().join("data"),
            state_dir: root.path().join("state"),
            monitor_binary: Some(built("knarr-monitor")),
            ..Config::default()
        };
        let runtime =
            std::env::var_os("KNARR_TEST_RUNTIME").map_or_else(|| built("knarr-runtime"), PathBuf::from);
        config.engine.runtimes.insert("slow".into(), slow_runtime(root.path(), &runtime));
        config.engine.runtimes.insert(String::new(), runtime);
        config.engine.monitor_cgroup = format!("/knarr-test-{unique}-{number}");
        config.network.bridge = format!("kt{unique}x{number}");
        config.network.table = format!("knarr-test-{unique}-{number}");
        config.network.pod_cidr = format!("10.213.{}.0/24", number % 250);
        config.network.cluster_cidr = config.network.pod_cidr.clone();
        let config = Arc::new(config);
        let images = ImageStore::open(&root.path().join("images")).unwrap();
        import_busybox(&images, &root.path().join("busybox"));
        let engine = start(&config, &images).await;
        Self { engine, config, images, root }
    }

    /// What a crash and a new engine are to pods: this engine is forgotten, another one starts.
    pub(crate) async fn restart(&mut self) {
        self.engine = start(&self.config, &self.images).await;
    }

    /// A port of the host that no other lab asks for, and that the kernel gives nobody by itself.
    pub(crate) fn host_port(&self) -> i32 {
        let network = self.config.network.pod_cidr.split('.').nth(2).unwrap();
        12_000 + i32::try_from(std::process::id() % 60).unwrap() * 20 + network.parse::<i32>().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A pod in the host's network (so a test of something else needs no bridge).
    pub(crate) fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("{name}-uid"),
                namespace: "test".into(),
                attempt: 0,
            }),
            log_directory: self.path("logs").display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        network: NamespaceMode::Node as i32,
                        pid: NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn run_pod(&self, config: PodSandboxConfig) -> Result<String, Status> {
        self.run_pod_with("", config).await
    }

    pub(crate) async fn run_pod_with(
        &self,
        handler: &str,
        config: PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        self.engine.run_pod_sandbox(request).await.map(|response| response.pod_sandbox_id)
    }

    pub(crate) fn container(&self, name: &str, command: &[&str]) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                resources: None,
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn create(&self, pod: &str, config: ContainerConfig) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: Some(PodSandboxConfig::default()),
        };
        self.engine.create_container(request).await.map(|response| response.container_id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Status> {
        self.engine.start_container(StartContainerRequest { container_id: id.into() }).await.map(drop)
    }

    pub(crate) async fn run(&self, pod: &str, config: ContainerConfig) -> String {
        let id = self.create(pod, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub(crate) async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.engine.container_status(request).await.unwrap().status.unwrap()
    }

    /// The container's status once it has ended.
    pub(crate) async fn ended(&self, id: &str) -> ContainerStatus {
        self.eventually(async || {
            let status = self.status(id).await;
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
        .await
    }

    /// Runs a container to its end and answers its output.
    pub(crate) async fn output(&self, pod: &str, config: ContainerConfig) -> String {
        let log = self.path("logs").join(&config.log_path);
        let id = self.run(pod, config).await;
        self.ended(&id).await;
        std::fs::read_to_string(log)
            .unwrap()
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n")
            .collect()
    }

    pub(crate) async fn exec(&self, id: &str, command: &[&str]) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(|&word| word.to_owned()).collect();
        self.engine.exec_sync(ExecSyncRequest { container_id: id.into(), cmd, timeout: 60 }).await
    }

    pub(crate) async fn stop(&self, id: &str, timeout: i64) {
        self.engine.stop_container(StopContainerRequest { container_id: id.into(), timeout }).await.unwrap();
    }

    /// Tries until there is an answer, for at most a minute.
    pub(crate) async fn eventually<T>(&self, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
        let mut retry = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..6000 {
            if let Some(answer) = attempt().await {
                return answer;
            }
            retry.tick().await;
        }
        panic!("not within a minute");
    }
}

fn import_busybox(images: &ImageStore, root: &Path) {
    for directory in ["bin", "etc", "tmp", "root"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        if applet == "ls" {
            std::fs::hard_link(root.join("bin/busybox"), root.join("bin/ls")).unwrap();
        } else {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nwww-data:x:33:\naudio:x:29:www-data\n").unwrap();
    let config = ImportConfig { cmd: vec!["sh".into()], env: vec!["PATH=/bin".into()], ..Default::default() };
    images.import(root, IMAGE, config).unwrap();
}

/// A runtime whose `start` hangs until the file `go` appears.
fn slow_runtime(root: &Path, runtime: &Path) -> PathBuf {
    let (path, go) = (root.join("slow-runtime"), root.join("go"));
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' start '*) while [ ! -e {} ]; do sleep 0.05; done;; esac\nexec {} \"$@\"\n",
        go.display(),
        runtime.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A program of this build.
fn built(name: &str) -> PathBuf {
    let directory = std::env::var_os("KNARR_BIN_DIR").map_or_else(
        || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned(),
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(path.is_file(), "{} is missing: build it first (cargo build -p {name})", path.display());
    path
}
