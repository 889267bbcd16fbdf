//! `knarr agent` as a node of some API server: directories, port, bridge, table and cgroups that nobody else has, and an
//! image. Dropped, it takes everything back, also after a failed expectation.

use crate::bins::{self, Said};
use crate::eventually::eventually;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// An image of the agent's own, with a busybox in it.
pub const IMAGE: &str = "localhost/busybox:test";

const APPLETS: [&str; 19] = [
    "sh", "cat", "echo", "sleep", "httpd", "wget", "test", "touch", "rm", "ls", "env", "tar", "mkdir",
    "grep", "stat", "true", "false", "tail", "dd",
];
const READY: &str = "knarr agent is ready";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The agent.
#[derive(Debug)]
pub struct Agent {
    directory: tempfile::TempDir,
    number: u32,
    child: Option<Child>,
}

impl Agent {
    /// An agent for the node `name` with these credentials (where empty, on its own), and with further lines of the
    /// settings' table `kubelet`; it does not run yet.
    ///
    /// # Panics
    /// When anything cannot be made.
    #[must_use]
    pub fn new(name: &str, kubeconfig: &str, kubelet: &str) -> Agent {
        let directory = tempfile::Builder::new().prefix("knarr-agent-").tempdir().expect("a directory");
        let number = (std::process::id() + 83 * NEXT.fetch_add(1, Ordering::Relaxed)) % 250;
        let agent = Agent { directory, number, child: None };
        let config = format!(
            "pod_logs_dir = \"{0}/logs/pods\"\nnode_name = \"{name}\"\n\
             [engine]\nmonitor_cgroup = \"/knarr-agent-monitors-{number}\"\n\
             [network]\nbridge = \"knx{number}\"\ntable = \"knx{number}\"\npod_cidr = \"10.148.{number}.0/24\"\n\
             cluster_cidr = \"10.148.{number}.0/24\"\nservice_cidr = \"10.197.{number}.0/24\"\n\
             [kubelet]\nlisten = \"0.0.0.0:{1}\"\ncgroup_root = \"/knarr-agent-{number}\"\n\
             manifests = \"{0}/manifests\"\n{kubelet}\n",
            agent.directory.path().display(),
            23_500 + number,
        );
        std::fs::write(agent.path("config.toml"), config).expect("config.toml");
        std::fs::create_dir(agent.path("manifests")).expect("a directory");
        if !kubeconfig.is_empty() {
            std::fs::write(agent.path("node.kubeconfig"), kubeconfig).expect("a kubeconfig");
        }
        agent.import_busybox();
        agent
    }

    fn import_busybox(&self) {
        let bin = self.path("busybox/bin");
        std::fs::create_dir_all(&bin).expect("a directory");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("a static busybox");
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).expect("a link");
        }
        let root = self.path("busybox").display().to_string();
        self.knarr(&["image", "import", "--env", "PATH=/bin", &root, IMAGE]).ok();
    }

    /// The range that its pods may have addresses from.
    #[must_use]
    pub fn service_cidr(&self) -> String {
        format!("10.197.{}.0/24", self.number)
    }

    /// A path of the kubelet API.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", 23_500 + self.number)
    }

    /// Where the cgroups of its pods are on a host with version 2 alone.
    #[must_use]
    pub fn unified_cgroup(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup/knarr-agent-{}", self.number))
    }

    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `knarr` with its directories.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(bins::find("knarr"));
        command.arg("--data-dir").arg(self.path("data")).arg("--state-dir").arg(self.path("state"));
        command.arg("--config").arg(self.path("config.toml"));
        command
    }

    fn knarr(&self, arguments: &[&str]) -> Said {
        bins::run(self.command().args(arguments))
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready within a minute.
    pub fn start(&mut self) {
        let before = self.log().matches(READY).count();
        self.spawn();
        eventually("the agent is ready", Duration::from_secs(60), || {
            let log = self.log();
            if log.matches(READY).count() > before { Ok(()) } else { Err(log) }
        });
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log"));
        let log = log.expect("agent.log");
        let mut command = self.command();
        command.args(["--log-level", "info", "agent"]);
        let kubeconfig = self.path("node.kubeconfig");
        if kubeconfig.exists() {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("agent.log")).stderr(log);
        self.child = Some(command.spawn().expect("knarr agent"));
    }

    /// Kills it without a word; its pods go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Everything it has said since it was started first.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- knarr agent said:\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            let _ended = (child.kill(), child.wait());
        }
        let said = self.knarr(&["down"]);
        if said.code != 0 && !std::thread::panicking() {
            eprintln!("knarr down: {said:?}");
        }
        for name in [format!("knarr-agent-{}", self.number), format!("knarr-agent-monitors-{}", self.number)]
        {
            for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                let _not_there = std::fs::remove_dir(hierarchy.path().join(&name));
            }
            let _not_there = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&name));
        }
    }
}
