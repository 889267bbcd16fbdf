//! One `knarr up` of its own: directories, ports, bridge, tables and cgroups that nobody else has, a registry with
//! the sample images, and kubectl. Dropped, it takes everything back, also after a failed expectation.

use crate::bins::{self, Said};
use crate::eventually::eventually;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// kubectl's minor versions, where a package has put them.
const KUBECTL_DIRECTORIES: [&str; 2] = ["/usr/lib/google-cloud-sdk/bin", "/usr/local/bin"];

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A node with a control plane, and everything around it.
#[derive(Debug)]
pub struct Cluster {
    directory: tempfile::TempDir,
    number: u16,
    up: Option<Child>,
    registry_port: u16,
    cluster_cidr: String,
}

impl Cluster {
    /// Starts the registry and the node, and waits until it says that it is ready.
    ///
    /// # Panics
    /// When anything does not start.
    pub fn start() -> Self {
        Self::begin(&std::env::temp_dir(), "", |third| format!("10.142.{third}.0/24"))
    }

    /// The same with everything below `base`, and with further lines of the settings' table `kubelet`.
    ///
    /// # Panics
    /// When anything does not start.
    pub fn start_in(base: &Path, kubelet: &str) -> Self {
        Self::begin(base, kubelet, |third| format!("10.142.{third}.0/24"))
    }

    /// The same with a range of addresses that is enough for the pods of several nodes; see `cluster_cidr`.
    ///
    /// # Panics
    /// When anything does not start.
    pub fn start_for_many_nodes() -> Self {
        Self::begin(&std::env::temp_dir(), "", |third| format!("10.160.{}.0/22", third * 4 % 256))
    }

    fn begin(base: &Path, kubelet: &str, cluster_cidr: impl FnOnce(u16) -> String) -> Self {
        let number = u16::try_from(std::process::id() % 100).expect("a small number")
            + 100 * NEXT.fetch_add(1, Ordering::SeqCst);
        let directory =
            tempfile::Builder::new().prefix("knarr-cluster-").tempdir_in(base).expect("a directory");
        let cluster_cidr = cluster_cidr(number % 250);
        let mut cluster = Self { directory, number, up: None, registry_port: 20_000 + number, cluster_cidr };
        cluster.write_config(kubelet);
        cluster.start_registry();
        cluster.up(&[]);
        cluster
    }

    fn write_config(&self, kubelet: &str) {
        let n = self.number;
        let third = n % 250;
        let config = format!(
            "pod_logs_dir = \"{}/logs\"\n\
             [engine]\nmonitor_cgroup = \"/knarr-monitors-{n}\"\n\
             [network]\nbridge = \"knt{n}\"\ntable = \"knt{n}\"\npod_cidr = \"{}/24\"\n\
             cluster_cidr = \"{}\"\nservice_cidr = \"10.196.{third}.0/24\"\n\
             [run_network]\nbridge = \"knr{n}\"\ntable = \"knr{n}\"\npod_cidr = \"10.143.{third}.0/24\"\n\
             cluster_cidr = \"10.143.{third}.0/24\"\n\
             [kubelet]\nlisten = \"0.0.0.0:{}\"\ncgroup_root = \"/knarr-test-{n}\"\nmanifests = \"{}\"\n\
             {kubelet}\n",
            self.directory.path().display(),
            self.cluster_cidr.split('/').next().unwrap_or_default(),
            self.cluster_cidr,
            22_000 + n,
            self.path("manifests").display(),
        );
        std::fs::create_dir_all(self.path("manifests")).expect("a directory");
        std::fs::write(self.path("config.toml"), config).expect("config.toml");
    }

    /// The configured cgroup root is ours, not knarr's: `knarr down` leaves it.
    fn remove_cgroup_root(&self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _not_there =
                std::fs::remove_dir(hierarchy.path().join(format!("knarr-test-{}", self.number)));
        }
        let _not_there = std::fs::remove_dir(format!("/sys/fs/cgroup/knarr-test-{}", self.number));
    }

    fn start_registry(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/sample-registry");
        let knarr = bins::find("knarr");
        let work = self.path("registry");
        std::fs::create_dir(&work).expect("a directory");
        let mut command = Command::new(script);
        command.arg(&work).arg(self.registry_port.to_string());
        command.env("KNARR_BIN_DIR", knarr.parent().expect("a directory"));
        bins::run(&mut command).ok();
    }

    /// Starts `knarr up` again (it must not run).
    ///
    /// # Panics
    /// When it is not ready within two minutes.
    pub fn up(&mut self, extra: &[&str]) {
        let log = std::fs::File::create(self.path("up.log")).expect("up.log");
        let listen = format!("0.0.0.0:{}", 21_000 + self.number);
        let mut command = self.knarr_command();
        command.args(["up", "--listen", &listen, "--node-name", "node"]).args(extra);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("up.log")).stderr(log);
        self.up = Some(command.spawn().expect("knarr up"));
        eventually("knarr up is ready", Duration::from_secs(120), || {
            let log = self.log();
            if log.contains("knarr is ready") { Ok(()) } else { Err(log) }
        });
    }

    /// What `knarr up` has printed since it was started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    /// Process id of `knarr up`.
    pub fn pid(&self) -> u32 {
        self.up.as_ref().map_or(0, Child::id)
    }

    /// Kills `knarr up` without a word.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut up = self.up.take().expect("knarr up runs");
        up.kill().expect("kill");
        up.wait().expect("wait");
    }

    /// Asks `knarr up` to end; its pods go on.
    ///
    /// # Panics
    /// When it does not run, or ends with an error.
    pub fn stop(&mut self) {
        let mut up = self.up.take().expect("knarr up runs");
        bins::run(Command::new("kill").args(["-TERM", &up.id().to_string()])).ok();
        let status = eventually("knarr up ends", Duration::from_secs(120), || {
            up.try_wait().expect("wait").ok_or_else(|| "it still runs".to_owned())
        });
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Runs `knarr down`.
    pub fn down(&mut self) -> Said {
        let said = bins::run(self.knarr_command().arg("down"));
        if let Some(mut up) = self.up.take() {
            let _ended = up.wait();
        }
        said
    }

    /// Runs any knarr command on this node's directories.
    pub fn knarr(&self, arguments: &[&str]) -> Said {
        bins::run(self.knarr_command().args(arguments))
    }

    fn knarr_command(&self) -> Command {
        let mut command = Command::new(bins::find("knarr"));
        command.arg("--data-dir").arg(self.path("data")).arg("--state-dir").arg(self.path("state"));
        command.arg("--config").arg(self.path("config.toml"));
        command
    }

    /// Runs one kubectl.
    pub fn kubectl(&self, kubectl: &Path, arguments: &[&str]) -> Said {
        bins::run(self.kubectl_command(kubectl).args(arguments))
    }

    /// One kubectl with this cluster's credentials, to be given arguments and started.
    pub fn kubectl_command(&self, kubectl: &Path) -> Command {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.path("data/admin.kubeconfig"));
        command.env("HOME", self.directory.path());
        command
    }

    /// Writes a manifest whose `IMAGE` is the sample image and answers its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let text = text.replace("127.0.0.1:5000", &format!("127.0.0.1:{}", self.registry_port));
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a manifest");
        path.display().to_string()
    }

    /// The registry's image of this name: `127.0.0.1:PORT/NAME`.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.registry_port)
    }

    /// The range that all pods of the cluster have their addresses from.
    pub fn cluster_cidr(&self) -> &str {
        &self.cluster_cidr
    }

    /// A path in this cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What this cluster has on the machine besides files: mounts, links, tables, cgroups, processes.
    ///
    /// # Panics
    /// When the machine cannot be looked at.
    pub fn traces(&self) -> Vec<String> {
        let n = self.number;
        let names = [
            format!("knt{n}"),
            format!("knr{n}"),
            format!("knarr-monitors-{n}"),
            format!("knarr-test-{n}/kubepods"),
        ];
        let directory = self.directory.path().display().to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/world");
        let world = bins::run(&mut Command::new(script)).out;
        let ours =
            |line: &&str| names.iter().any(|name| line.contains(name.as_str())) || line.contains(&directory);
        world.lines().filter(ours).map(str::to_owned).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let said = self.down();
        if said.code != 0 && !std::thread::panicking() {
            eprintln!("knarr down: {said:?}");
        }
        if std::thread::panicking() {
            eprintln!("--- knarr up said:\n{}", self.log());
        }
        self.remove_cgroup_root();
        if let Ok(pid) = std::fs::read_to_string(self.path("registry/registry.pid")) {
            bins::run(Command::new("kill").arg(pid.trim()));
        }
    }
}

/// Every kubectl of this machine that is new enough, oldest first: those of 1.27 to 1.33 by name, else the one on PATH.
pub fn kubectls() -> Vec<PathBuf> {
    let named = |minor: u32| {
        KUBECTL_DIRECTORIES
            .iter()
            .map(move |directory| Path::new(directory).join(format!("kubectl.1.{minor}")))
    };
    let found: Vec<PathBuf> = (27..=33).flat_map(named).filter(|path| path.exists()).collect();
    if !found.is_empty() {
        return found;
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .map(|directory| directory.join("kubectl"))
        .filter(|path| path.exists())
        .take(1)
        .collect()
}
