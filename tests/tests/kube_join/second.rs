//! A second node on this machine: an agent in a network namespace of its own, joined to the rest by a pair of links,
//! with directories, cgroups and names that nobody else has. Dropped, it takes everything back.

use knarr_tests::bins::{self, Said};
use knarr_tests::eventually::eventually;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn run(program: &str, arguments: &[&str]) -> Said {
    bins::run(Command::new(program).args(arguments))
}

/// The network namespace and the links; made before the cluster, whose certificate must carry the new address.
#[derive(Debug)]
pub(crate) struct Wire {
    number: u32,
    /// `ip netns` makes a mount of [`PLACE`] and leaves it behind.
    made_place: bool,
}

/// Where `ip netns` keeps namespaces.
const PLACE: &str = "/run/netns";

impl Wire {
    pub(crate) fn lay() -> Wire {
        let wire = Wire { number: std::process::id() % 250, made_place: !is_mounted(PLACE) };
        let (name, here, there) = (wire.name(), wire.link("a"), wire.link("b"));
        run("ip", &["netns", "add", &name]).ok();
        run("ip", &["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &name]).ok();
        run("ip", &["addr", "add", &format!("{}/24", wire.gateway()), "dev", &here]).ok();
        run("ip", &["link", "set", &here, "up"]).ok();
        wire.inside(&["ip", "link", "set", "lo", "up"]).ok();
        wire.inside(&["ip", "addr", "add", &format!("{}/24", wire.address()), "dev", &there]).ok();
        wire.inside(&["ip", "link", "set", &there, "up"]).ok();
        wire.inside(&["ip", "route", "add", "default", "via", &wire.gateway()]).ok();
        wire
    }

    fn name(&self) -> String {
        format!("knarr-join-{}", self.number)
    }

    fn link(&self, end: &str) -> String {
        format!("knj{}{end}", self.number)
    }

    pub(crate) fn gateway(&self) -> String {
        format!("10.144.{}.1", self.number)
    }

    pub(crate) fn address(&self) -> String {
        format!("10.144.{}.2", self.number)
    }

    /// A command in the namespace. `ip netns exec` would give it another /sys, without cgroups.
    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={PLACE}/{}", self.name()));
        command
    }

    fn inside(&self, arguments: &[&str]) -> Said {
        bins::run(self.command().args(arguments))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _it_goes_with_its_peer = run("ip", &["link", "del", &self.link("a")]);
        let _already_gone = run("ip", &["netns", "del", &self.name()]);
        if self.made_place {
            let _others_came_meanwhile = run("umount", &[PLACE]);
        }
    }
}

fn is_mounted(path: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

/// The agent.
#[derive(Debug)]
pub(crate) struct Second<'a> {
    wire: &'a Wire,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl<'a> Second<'a> {
    pub(crate) fn new(wire: &'a Wire, extra: &str) -> Second<'a> {
        let directory = tempfile::Builder::new().prefix("knarr-second-").tempdir().expect("a directory");
        let n = wire.number;
        let config = format!(
            "pod_logs_dir = \"{}/logs\"\nnode_name = \"second\"\n\
             [engine]\nmonitor_cgroup = \"/knarr-join-monitors-{n}\"\n\
             [kubelet]\nnode_ip = \"{}\"\ncgroup_root = \"/knarr-join-{n}\"\nsystem_bus = \"/nowhere\"\n{extra}",
            directory.path().display(),
            wire.address(),
        );
        std::fs::write(directory.path().join("config.toml"), config).expect("config.toml");
        Second { wire, directory, child: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        let (data, state, config) = (path("data"), path("state"), path("config.toml"));
        ["--data-dir", &data, "--state-dir", &state, "--config", &config].map(str::to_owned).into()
    }

    /// Fetches an image from where this machine has it: the namespace has a loopback of its own.
    pub(crate) fn pull(&self, image: &str) {
        let mut command = Command::new(bins::find("knarr"));
        bins::run(command.args(self.arguments()).args(["image", "pull", image])).ok();
    }

    /// Starts the agent with these words after `knarr agent`, and waits until it is ready.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        self.spawn(arguments);
        eventually("the second agent is ready", Duration::from_secs(120), || {
            let log = self.log();
            if log.contains("knarr agent is ready: node second") { Ok(()) } else { Err(log) }
        });
    }

    fn spawn(&mut self, arguments: &[&str]) {
        let log = std::fs::File::create(self.path("agent.log")).expect("agent.log");
        let mut command = self.wire.command();
        command.arg(bins::find("knarr")).args(self.arguments()).arg("agent").args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("agent.log")).stderr(log);
        self.child = Some(command.spawn().expect("knarr agent"));
    }

    /// Runs the agent to its end, which must be a failure; what it complained about.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let mut command = self.wire.command();
        command.arg(bins::find("knarr")).args(self.arguments()).arg("agent").args(arguments);
        bins::run(&mut command).failed()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Kills the agent without a word; its pods go on.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// `kubectl proxy` with this node's own credentials: the API without TLS, as this node sees it.
    pub(crate) fn api_proxy(&self, kubectl: &Path) -> Proxy {
        let log = std::fs::File::create(self.path("proxy.log")).expect("proxy.log");
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.path("data/node.kubeconfig"));
        command
            .args(["proxy", "--port=0", "--reject-methods=^$", "--accept-hosts=.*"])
            .stdin(Stdio::null())
            .stdout(log);
        let child = command.spawn().expect("kubectl proxy");
        let address = eventually("kubectl proxy listens", Duration::from_secs(60), || {
            let said = std::fs::read_to_string(self.path("proxy.log")).unwrap_or_default();
            let address = said.trim().strip_prefix("Starting to serve on ").map(str::parse);
            address.and_then(Result::ok).ok_or(said)
        });
        Proxy { child, address }
    }

    /// Asks the agent to end and waits for it.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        run("kill", &["-TERM", &child.id().to_string()]).ok();
        let status = eventually("the second agent ends", Duration::from_secs(120), || {
            child.try_wait().expect("wait").ok_or_else(|| "it still runs".to_owned())
        });
        assert!(status.success(), "{status}: {}", self.log());
    }

    fn remove_cgroups(&self) {
        for name in
            [format!("knarr-join-{}", self.wire.number), format!("knarr-join-monitors-{}", self.wire.number)]
        {
            for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                let _not_there = std::fs::remove_dir(hierarchy.path().join(&name));
            }
            let _not_there = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&name));
        }
    }
}

/// A running `kubectl proxy`.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the second agent said:\n{}", self.log());
        }
        let mut command = self.wire.command();
        command.arg(bins::find("knarr")).args(self.arguments()).arg("down");
        let said = bins::run(&mut command);
        if said.code != 0 {
            eprintln!("knarr down of the second node: {said:?}");
        }
        if let Some(mut child) = self.child.take() {
            let _ended = (child.kill(), child.wait());
        }
        self.remove_cgroups();
    }
}
