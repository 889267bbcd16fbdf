//! A whole node of its own, fed by a directory of manifests: state in a temporary directory, names nobody else has.

use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use knarr_agent::config::{Config, KubeletConfig};
use knarr_agent::node::{Node, remove_everything};
use knarr_images::{ImageStore, ImportConfig};
use std::os::unix::fs::symlink;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) const IMAGE: &str = "localhost/busybox:test";

/// Programs that the image has, all of them busybox.
const APPLETS: &[&str] = &[
    "cat", "dd", "echo", "env", "grep", "hostname", "httpd", "id", "ls", "mkdir", "mount", "nc", "sh",
    "sleep", "stat", "test", "touch", "wget",
];

pub(crate) struct Lab {
    pub(crate) config: Arc<Config>,
    root: Arc<tempfile::TempDir>,
    node: Option<Node>,
}

/// Runs a test in a lab and takes everything down afterwards, also when it fails.
pub(crate) async fn with(test: impl AsyncFnOnce(&mut Lab)) {
    with_settings(|_| {}, test).await;
}

/// The same with other settings of the kubelet half.
pub(crate) async fn with_settings(change: impl FnOnce(&mut KubeletConfig), test: impl AsyncFnOnce(&mut Lab)) {
    let mut lab = Lab::new(change).await;
    let outcome = AssertUnwindSafe(test(&mut lab)).catch_unwind().await;
    if let Some(node) = lab.node.take() {
        node.shutdown(false).await.unwrap();
    }
    let errors = remove_everything(&lab.config).await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
    lab.remove_cgroup_root();
}

impl Lab {
    async fn new(change: impl FnOnce(&mut KubeletConfig)) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = std::process::id() % 10_000;
        let root = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config {
            data_dir: root.path().join("data"),
            state_dir: root.path().join("state"),
            pod_logs_dir: root.path().join("logs/pods"),
            node_name: Some("lab".into()),
            monitor_binary: Some(built("knarr-monitor")),
            ..Config::default()
        };
        let runtime =
            std::env::var_os("KNARR_TEST_RUNTIME").map_or_else(|| built("knarr-runtime"), PathBuf::from);
        config.engine.runtimes.insert(String::new(), runtime);
        config.engine.monitor_cgroup = format!("/knarr-test-{unique}-{number}-monitors");
        config.network.bridge = format!("kk{unique}x{number}");
        config.network.table = format!("knarr-kk-{unique}-{number}");
        config.network.pod_cidr = format!("10.214.{}.0/24", number % 250);
        config.network.cluster_cidr = config.network.pod_cidr.clone();
        config.kubelet.cgroup_root = format!("/knarr-test-{unique}-{number}");
        config.kubelet.manifests = Some(root.path().join("manifests"));
        config.kubelet.listen.set_port(0);
        // This machine's own logind is not to wait for these pods.
        config.kubelet.system_bus = root.path().join("bus");
        change(&mut config.kubelet);
        std::fs::create_dir_all(root.path().join("manifests")).unwrap();
        let images = ImageStore::open(&config.data_dir.join("images")).unwrap();
        import_busybox(&images, &root.path().join("busybox"));
        let mut lab = Lab { config: Arc::new(config), root, node: None };
        lab.start().await;
        lab
    }

    async fn start(&mut self) {
        self.node = Some(Node::start(self.config.clone(), None).await.unwrap());
    }

    /// Stops the agent and starts another one; pods go on.
    pub(crate) async fn restart(&mut self) {
        if let Some(node) = self.node.take() {
            node.shutdown(false).await.unwrap();
        }
        self.start().await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Puts a manifest there, whole from the first moment.
    pub(crate) fn write(&self, file: &str, manifest: serde_json::Value) {
        let new = self.path("manifest");
        std::fs::write(&new, manifest.to_string()).unwrap();
        std::fs::rename(new, self.path("manifests").join(file)).unwrap();
    }

    pub(crate) fn delete(&self, file: &str) {
        std::fs::remove_file(self.path("manifests").join(file)).unwrap();
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Pod> {
        let full = format!("{name}-lab");
        let pods = self.node.as_ref().unwrap().pods();
        pods.into_iter().find(|pod| pod.metadata.name.as_deref() == Some(&full))
    }

    /// The pod, once it is as wanted.
    pub(crate) async fn pod_when(&self, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let mut last = None;
        let found = eventually(async || {
            last = self.pod(name);
            last.clone().filter(|pod| wanted(pod))
        })
        .await;
        found.unwrap_or_else(|| panic!("{name} is {:#?}", last.and_then(|pod| pod.status)))
    }

    pub(crate) async fn gone(&self, name: &str) {
        assert!(
            eventually(async || self.pod(name).is_none().then_some(())).await.is_some(),
            "{name} is still there"
        );
    }

    /// The log file of a container's run.
    pub(crate) fn log_file(&self, pod: &Pod, container: &str, number: u32) -> PathBuf {
        let meta = &pod.metadata;
        let directory = format!(
            "{}_{}_{}",
            meta.namespace.as_ref().unwrap(),
            meta.name.as_ref().unwrap(),
            meta.uid.as_ref().unwrap()
        );
        self.config.pod_logs_dir.join(directory).join(container).join(format!("{number}.log"))
    }

    /// The text of one run of a container.
    pub(crate) fn log(&self, pod: &Pod, container: &str, number: u32) -> String {
        let file = self.log_file(pod, container, number);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|line| format!("{line}\n")).collect()
    }

    /// A file of one of the pod's volumes, as the node sees it.
    pub(crate) fn volume_file(&self, pod: &Pod, plugin: &str, file: &str) -> PathBuf {
        let uid = pod.metadata.uid.as_ref().unwrap();
        self.path("data/kubelet/pods").join(uid).join(format!("volumes/kubernetes.io~{plugin}")).join(file)
    }

    /// Waits until the log of a container's first run is exactly this.
    pub(crate) async fn log_is(&self, pod: &Pod, container: &str, expected: &str) {
        let complete = async || (self.log(pod, container, 0) == expected).then_some(());
        assert!(eventually(complete).await.is_some(), "{:?}", self.log(pod, container, 0));
    }

    /// The cgroup above the node's own is the test's.
    fn remove_cgroup_root(&self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let root = self.config.kubelet.cgroup_root.trim_start_matches('/');
            drop(std::fs::remove_dir(hierarchy.unwrap().path().join(root)));
        }
    }

    /// Mounts, cgroups and directories of pods that should be gone.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let root = self.root.path();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(root.to_str().unwrap())).map(str::to_owned);
        let below = |directory: &str| {
            let entries = std::fs::read_dir(root.join(directory)).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path().display().to_string()).collect::<Vec<_>>()
        };
        let directories =
            ["data/kubelet/pods", "data/engine/sandboxes", "state/pods", "state/containers", "logs/pods"];
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap();
        let pods = format!("{}/kubepods", self.config.kubelet.cgroup_root.trim_start_matches('/'));
        let cgroups = hierarchies.map(|entry| entry.unwrap().path().join(&pods)).filter(|path| path.exists());
        let cgroups: Vec<String> = cgroups.map(|path| path.display().to_string()).collect();
        mounts.chain(directories.into_iter().flat_map(below)).chain(cgroups).collect()
    }
}

pub(crate) fn containers(pod: &Pod) -> Vec<ContainerStatus> {
    pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Tries until there is an answer, for at most two minutes.
pub(crate) async fn eventually<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let mut retry = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..12_000 {
        if let Some(answer) = attempt().await {
            return Some(answer);
        }
        retry.tick().await;
    }
    None
}

fn import_busybox(images: &ImageStore, root: &Path) {
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let config = ImportConfig { cmd: vec!["sh".into()], env: vec!["PATH=/bin".into()], ..Default::default() };
    images.import(root, IMAGE, config).unwrap();
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
