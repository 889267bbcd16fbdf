//! A real kubelet on an engine of ours, with directories, a port and cgroups that nobody else has. Dropped, it takes
//! everything back.

use knarr_tests::bins;
use knarr_tests::engine::Engine;
use knarr_tests::free_port::free_port;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::runtime::Runtime;

pub(crate) struct Kubelet {
    engine: Option<Engine>,
    runtime: Runtime,
    child: Child,
    cgroup: String,
}

fn hierarchies() -> Vec<PathBuf> {
    let found = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    found.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

impl Kubelet {
    pub(crate) fn start(program: &Path, node: &str, credentials: &str) -> Kubelet {
        let runtime = Runtime::new().expect("a runtime");
        let engine = runtime.block_on(Engine::start());
        engine.import("busybox", knarr_tests::agent::IMAGE, &[]);
        let cgroup = format!("knarr-kubelet-{}", std::process::id());
        hierarchies().iter().for_each(|root| std::fs::create_dir_all(root.join(&cgroup)).expect("a cgroup"));
        let path = |name: &str| engine.path(name).display().to_string();
        std::fs::write(engine.path("kubeconfig"), credentials).expect("a kubeconfig");
        let config = serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "port": free_port(), "readOnlyPort": 0, "healthzPort": 0, "oomScoreAdj": 0,
            "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{cgroup}"), "failCgroupV1": false,
            "failSwapOn": false, "containerRuntimeEndpoint": format!("unix://{}", path("state/cri.sock")),
            "podLogsDir": path("kubelet-logs"), "volumePluginDir": path("plugins"), "maxPods": 200,
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"}, "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "10Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi"},
            "clusterDNS": ["192.0.2.53"], "clusterDomain": "cluster.local"});
        std::fs::write(engine.path("kubelet.json"), config.to_string()).expect("settings");
        let log = File::create(engine.path("kubelet.log")).expect("a log");
        let mut command = Command::new(program);
        command.arg(format!("--config={}", path("kubelet.json")));
        command
            .arg(format!("--kubeconfig={}", path("kubeconfig")))
            .arg(format!("--hostname-override={node}"));
        command.arg(format!("--root-dir={}", path("kubelet"))).arg(format!("--cert-dir={}", path("pki")));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("a kubelet");
        Kubelet { engine: Some(engine), runtime, child, cgroup }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.engine.as_ref().map(|engine| engine.path(name)).unwrap_or_default()
    }

    /// Its last words.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("kubelet.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the kubelet said:\n{}", self.log());
        }
        let _ended = (self.child.kill(), self.child.wait());
        // It binds its own directory to itself.
        let _not_mounted = bins::run(Command::new("umount").arg("-l").arg(self.path("kubelet")));
        let logs = self.path("kubelet-logs");
        for link in std::fs::read_dir("/var/log/containers").into_iter().flatten().flatten() {
            if std::fs::read_link(link.path()).is_ok_and(|target| target.starts_with(&logs)) {
                let _gone = std::fs::remove_file(link.path());
            }
        }
        let _context = self.runtime.enter();
        drop(self.engine.take());
        for root in hierarchies() {
            for part in ["kubepods/besteffort", "kubepods/burstable", "kubepods", ""] {
                let _not_there = std::fs::remove_dir(root.join(&self.cgroup).join(part));
            }
        }
    }
}
