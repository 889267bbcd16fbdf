//! One `knarr engine` of its own with an image of busybox, and a plain gRPC client of CRI that knows nothing else of
//! it. Dropped, it takes everything back, also after a failed expectation.

use crate::bins::{self, Said};
use crate::cri_client::Client;
use crate::eventually::{answers, eventually};
use crate::failure;
use knarr_cri::v1::*;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The image every lab has.
pub const IMAGE: &str = "localhost/busybox:1";
/// For everything that happens "soon", on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of its log that a failed test shows.
const LOG_LINES: usize = 200;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// An engine that serves.
#[derive(Debug)]
pub struct Engine {
    directory: tempfile::TempDir,
    number: u16,
    serving: Option<Child>,
    environment: Vec<(String, String)>,
    /// Asks it; also after a restart.
    pub client: Client,
}

impl Deref for Engine {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Engine {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start() -> Self {
        Self::start_with("", &[]).await
    }

    /// The same with more lines for the `[engine]` table of `config.toml`, and an environment.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn start_with(keys: &str, environment: &[(&str, &str)]) -> Self {
        failure::remember();
        let number = u16::try_from(std::process::id() % 300).expect("a small number")
            + 300 * NEXT.fetch_add(1, Ordering::SeqCst);
        let directory = tempfile::Builder::new().prefix("knarr-engine-").tempdir().expect("a directory");
        let client = Client::connect(&directory.path().join("state/cri.sock"));
        let environment =
            environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut engine = Self { directory, number, serving: None, environment, client };
        engine.write_config(keys);
        engine.import_busybox();
        engine.serve().await;
        engine
    }

    fn write_config(&self, keys: &str) {
        let n = self.number;
        let (second, third) = (150 + n / 250 % 50, n % 250);
        let config = format!(
            "pod_logs_dir = \"{0}/logs\"\n\
             [engine]\nmonitor_cgroup = \"/knarr-cri-{n}\"\nregistry_hosts_dir = \"{0}/hosts.d\"\n{keys}\n\
             [network]\nbridge = \"knc{n}\"\ntable = \"knc{n}\"\npod_cidr = \"10.{second}.{third}.0/24\"\n\
             cluster_cidr = \"10.{second}.{third}.0/24\"\n",
            self.directory.path().display(),
        );
        std::fs::write(self.path("config.toml"), config).expect("config.toml");
    }

    /// One file per applet, as links of one inode: a container may mask one without losing the others.
    fn import_busybox(&self) {
        let bin = self.path("busybox/bin");
        for directory in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
            std::fs::create_dir_all(self.path("busybox").join(directory)).expect("a directory");
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("a static /bin/busybox");
        let applets = bins::run(Command::new("/bin/busybox").arg("--list")).ok();
        for applet in applets.lines().filter(|name| *name != "busybox") {
            std::fs::hard_link(bin.join("busybox"), bin.join(applet)).expect("a link");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:u:/tmp:/bin/sh\n";
        std::fs::write(self.path("busybox/etc/passwd"), passwd).expect("passwd");
        let group = "root:x:0:\nuser:x:1000:\nshared:x:50000:user\n";
        std::fs::write(self.path("busybox/etc/group"), group).expect("group");
        self.import("busybox", IMAGE, &[]);
    }

    /// Makes an image of a directory of the lab.
    ///
    /// # Panics
    /// When that fails.
    pub fn import(&self, directory: &str, name: &str, options: &[&str]) {
        let mut command = self.knarr();
        command.args(["image", "import", "--cmd", "[\"sleep\", \"1000\"]", "--env", "PATH=/bin"]);
        bins::run(command.args(options).arg(self.path(directory)).arg(name)).ok();
    }

    /// Starts serving (it must not serve).
    ///
    /// # Panics
    /// When it does not answer within a minute.
    pub async fn serve(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("engine.log"));
        let log = log.expect("engine.log");
        let mut command = self.knarr();
        command.args(["--log-level", "info", "engine"]).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone().expect("engine.log")).stderr(log);
        self.serving = Some(command.spawn().expect("knarr engine"));
        answers("the engine's version", PATIENCE, || async {
            let request = VersionRequest { version: String::new() };
            self.runtime.clone().version(request).await.map_err(|error| format!("{error}: {}", self.log()))
        })
        .await;
    }

    /// Kills the engine without a word; pods go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut serving = self.serving.take().expect("it runs");
        serving.kill().expect("kill");
        serving.wait().expect("wait");
    }

    /// What the engine has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("engine.log")).unwrap_or_default()
    }

    /// A path in the lab's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `knarr` with this engine's directories.
    pub fn knarr(&self) -> Command {
        let mut command = Command::new(bins::find("knarr"));
        command.arg("--config").arg(self.path("config.toml"));
        command.arg("--data-dir").arg(self.path("data")).arg("--state-dir").arg(self.path("state"));
        command
    }

    /// Where things are that pods leave traces in.
    pub fn traces(&self) -> Traces {
        let count =
            |directory: &str| std::fs::read_dir(self.path(directory)).into_iter().flatten().flatten().count();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let state = self.path("state").display().to_string();
        let links = bins::run(Command::new("ip").args(["-o", "link", "show", "master", &self.bridge()]));
        Traces {
            mounts: mounts.lines().filter(|line| line.contains(&format!("{state}/"))).count(),
            pods: count("state/pods"),
            bundles: count("state/containers"),
            records: count("data/engine/sandboxes") + count("data/engine/containers"),
            addresses: count("data/network/pods"),
            links: links.out.lines().count(),
        }
    }

    /// Waits until no pod has left anything. The kernel takes links apart after the answer.
    ///
    /// # Panics
    /// When something stays.
    pub fn leaves_nothing(&self) {
        eventually("nothing of any pod is left", PATIENCE, || {
            let left = self.traces();
            let count = left.pods + left.bundles + left.records + left.addresses + left.links;
            if count == 0 { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// The bridge's name.
    pub fn bridge(&self) -> String {
        format!("knc{}", self.number)
    }

    /// A cgroup for pods that nobody else has; it goes with the engine.
    pub fn cgroup(&self) -> String {
        format!("/knarr-cri-pods-{}", self.number)
    }

    /// What is in it may take a moment to end; what stays in it is a leak.
    fn remove_cgroup(&self) {
        let name = self.cgroup();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let roots = hierarchies.map(|hierarchy| hierarchy.path()).chain(["/sys/fs/cgroup".into()]);
        let places: Vec<PathBuf> = roots.map(|root| root.join(name.trim_start_matches('/'))).collect();
        let remove = || {
            places.iter().for_each(|place| drop(std::fs::remove_dir(place)));
            let left: Vec<&PathBuf> = places.iter().filter(|place| place.exists()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        };
        if std::thread::panicking() {
            let _left = remove();
        } else {
            eventually("the cgroups of all pods are gone", PATIENCE, remove);
        }
    }

    fn down(&mut self) -> Said {
        if let Some(mut serving) = self.serving.take() {
            let _ended = serving.kill();
            let _ended = serving.wait();
        }
        bins::run(self.knarr().arg("down"))
    }
}

/// How much of pods is on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Traces {
    pub mounts: usize,
    pub pods: usize,
    pub bundles: usize,
    pub records: usize,
    pub addresses: usize,
    pub links: usize,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let log = self.log();
        let said = self.down();
        self.remove_cgroup();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
            // What was expected comes last, where it is not lost when much was said.
            eprintln!("--- the engine said at last:\n{tail}\n--- the test: {}", failure::last());
        } else {
            assert_eq!(said.code, 0, "knarr down: {said:?}");
        }
    }
}

/// A pod's configuration with a directory for logs and a cgroup of its own.
pub fn pod(engine: &Engine, name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("{name}-uid"),
            namespace: "test".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: engine.path("logs").join(name).display().to_string(),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

/// A container that runs `command`.
pub fn container(name: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig::default()),
        ..Default::default()
    }
}

/// Waits until a file holds `text`.
///
/// # Panics
/// When it does not in time.
pub fn file_holds(path: &Path, text: &str) -> String {
    eventually(&format!("{} holds {text:?}", path.display()), PATIENCE, || {
        let content = std::fs::read_to_string(path).unwrap_or_default();
        if content.contains(text) { Ok(content) } else { Err(content) }
    })
}
