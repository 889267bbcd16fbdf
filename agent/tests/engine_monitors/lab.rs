//! A pod directory with a monitor in it, a root file system of busybox, and a runtime.

use knarr_agent::config::Config;
use knarr_agent::engine::monitors::{CreateContainer, ExecProcess, ExecSession, Monitors, UnixMonitors};
use serde_json::json;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

pub(crate) struct Lab {
    pub(crate) monitors: UnixMonitors,
    pub(crate) sandbox: &'static str,
    config: Arc<Config>,
    root: tempfile::TempDir,
    name: String,
}

impl Lab {
    pub(crate) async fn new(sandbox: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("knarr-test-{sandbox}-{}-{number}", std::process::id());
        let mut config = Config { state_dir: root.path().join("state"), ..Config::default() };
        config.monitor_binary = Some(built("knarr-monitor"));
        config.engine.monitor_cgroup = format!("/{name}-monitors");
        let config = Arc::new(config);
        let monitors = UnixMonitors::new(config.clone());
        std::fs::create_dir_all(config.state_dir.join("pods").join(sandbox)).unwrap();
        monitors.ensure(sandbox).await.unwrap();
        monitors.ensure(sandbox).await.unwrap();
        Self { monitors, sandbox, config, root, name }
    }

    pub(crate) fn another_client(&self) -> UnixMonitors {
        UnixMonitors::new(self.config.clone())
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.config.state_dir.join("pods").join(self.sandbox)
    }

    fn runtime(&self) -> Vec<String> {
        let program = std::env::var("KNARR_TEST_RUNTIME")
            .unwrap_or_else(|_| built("knarr-runtime").display().to_string());
        vec![program, "--root".into(), self.root.path().join("runtime").display().to_string()]
    }

    pub(crate) fn container(&self, id: &str, args: &[&str]) -> CreateContainer {
        self.container_with_memory(id, args, 256 << 20)
    }

    pub(crate) fn container_with_memory(&self, id: &str, args: &[&str], memory: u64) -> CreateContainer {
        self.container_of(id, process(args, false), memory)
    }

    pub(crate) fn interactive(&self, id: &str, args: &[&str], tty: bool) -> CreateContainer {
        let container = self.container_of(id, process(args, tty), 256 << 20);
        CreateContainer { tty, stdin: true, ..container }
    }

    fn container_of(&self, id: &str, process: serde_json::Value, memory: u64) -> CreateContainer {
        let bundle = self.root.path().join(id);
        let bin = bundle.join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(bundle.join("rootfs/proc")).unwrap();
        std::fs::create_dir_all(bundle.join("rootfs/dev")).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "echo", "seq", "yes", "true", "stty", "tty", "dd", "setsid"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.name),
                "resources": {"memory": {"limit": memory}},
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            },
        });
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        CreateContainer {
            id: self.runtime_id(id),
            runtime: self.runtime(),
            bundle,
            log_path: Some(self.log_path(id)),
            tty: false,
            stdin: false,
            stdin_once: false,
            on_exit: Vec::new(),
            started: false,
            restore: None,
        }
    }

    /// The test's container ids are unique only within their own runtime root.
    fn runtime_id(&self, id: &str) -> String {
        id.to_owned()
    }

    pub(crate) async fn create(&self, request: CreateContainer) -> anyhow::Result<i32> {
        self.monitors.create_container(self.sandbox, request).await
    }

    pub(crate) fn start(&self, id: &str) {
        self.runtime_command(&["start", id]);
    }

    pub(crate) async fn run(&self, id: &str, args: &[&str]) {
        self.create(self.container(id, args)).await.unwrap();
        self.start(id);
    }

    pub(crate) fn kill(&self, id: &str) {
        self.runtime_command(&["kill", id, "KILL"]);
    }

    fn runtime_command(&self, arguments: &[&str]) {
        let runtime = self.runtime();
        let output = Command::new(&runtime[0]).args(&runtime[1..]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    pub(crate) async fn exec(
        &self,
        id: &str,
        args: &[&str],
        tty: bool,
        stdin: bool,
        timeout: Option<Duration>,
    ) -> anyhow::Result<ExecSession> {
        let request = ExecProcess {
            container_id: self.runtime_id(id),
            runtime: self.runtime(),
            process_json: process(args, tty).to_string(),
            tty,
            stdin,
            timeout,
        };
        self.monitors.exec(self.sandbox, request).await
    }

    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.root.path().join(format!("{id}.log"))
    }

    /// The lines of a log without their times.
    pub(crate) fn log_texts(&self, id: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.log_path(id)).unwrap();
        log.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest.to_owned()).collect()
    }

    /// Waits until the log is as wanted: its last lines may come after the news of the exit where a machine is slow.
    pub(crate) async fn log_becomes(&self, id: &str, wanted: impl Fn(Vec<String>) -> bool) {
        self.eventually("the log is complete", || wanted(self.log_texts(id))).await;
    }

    /// Command lines of the container's processes.
    pub(crate) fn processes(&self, id: &str) -> Vec<String> {
        let path = format!("/sys/fs/cgroup/memory/{}/{id}/cgroup.procs", self.name);
        let v2 = format!("/sys/fs/cgroup/{}/{id}/cgroup.procs", self.name);
        let pids = std::fs::read_to_string(path).or_else(|_| std::fs::read_to_string(v2)).unwrap();
        pids.lines()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok())
            .map(|line| line.trim_end_matches('\0').replace('\0', " "))
            .collect()
    }

    fn monitor_pid(&self) -> u32 {
        std::fs::read_to_string(self.directory().join("monitor.lock")).unwrap().parse().unwrap()
    }

    /// Kills it without a word, and waits until nobody holds its lock.
    pub(crate) async fn kill_monitor(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.monitor_pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let lock = std::fs::File::open(self.directory().join("monitor.lock")).unwrap();
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        self.eventually("the monitor is gone", || rustix::fs::flock(&lock, exclusive).is_ok()).await;
        // Dropping it would not do: a process that a parallel test is just starting has it, too.
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock).unwrap();
    }

    /// Makes a file in a container's root file system.
    pub(crate) fn touch(&self, id: &str, name: &str) {
        std::fs::write(self.root.path().join(id).join("rootfs").join(name), "").unwrap();
    }

    /// The monitor's children that are the same program: its log writer.
    fn log_writers(&self) -> Vec<u32> {
        let pid = self.monitor_pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let is_writer = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == "knarr-monitor")
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is_writer).collect()
    }

    pub(crate) fn log_writer_is_stuck(&self) -> bool {
        let stuck = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/wchan"))
                .is_ok_and(|wchan| wchan.contains("pipe_write"))
        };
        self.log_writers().iter().any(stuck)
    }

    /// Private memory of the monitor and its log writer.
    pub(crate) fn private_kib(&self) -> Vec<u64> {
        let mut pids = vec![self.monitor_pid()];
        pids.extend(self.log_writers());
        pids.iter().map(|pid| private_kib(*pid)).collect()
    }

    /// Waits until a condition holds, for at most a minute.
    pub(crate) async fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let mut retry = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..6000 {
            if condition() {
                return;
            }
            retry.tick().await;
        }
        panic!("{what}: not within a minute");
    }

    /// Ends everything this lab has made.
    pub(crate) async fn end(&self) {
        let runtime = self.runtime();
        let listed = Command::new(&runtime[0]).args(&runtime[1..]).args(["list", "-q"]).output().unwrap();
        for id in String::from_utf8(listed.stdout).unwrap().split_whitespace() {
            let mut delete = Command::new(&runtime[0]);
            assert!(delete.args(&runtime[1..]).args(["delete", "--force", id]).status().unwrap().success());
            // A test may have made the monitor forget it already.
            let _ = self.monitors.wait(self.sandbox, id).await;
            self.monitors.forget(self.sandbox, id).await.unwrap();
        }
        self.monitors.remove(self.sandbox).await.unwrap();
        self.remove_cgroups();
    }

    fn remove_cgroups(&self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let _ = std::fs::remove_dir(hierarchy.unwrap().path().join(&self.name));
        }
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.name));
    }
}

fn process(args: &[&str], tty: bool) -> serde_json::Value {
    json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "terminal": tty})
}

/// A program of this build.
pub(crate) fn built(name: &str) -> PathBuf {
    let directory = std::env::var_os("KNARR_BIN_DIR").map_or_else(
        || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned(),
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(path.is_file(), "{} is missing: build it first (cargo build -p {name})", path.display());
    path
}

/// A process' share of memory that has no file behind it, in KiB. Pages of the program are left out: all monitors of a
/// machine share them, but the kernel calls them private while there happens to be one, and dirty while the program is
/// so new that it is not on the disk yet.
fn private_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let anonymous = rollup.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
    anonymous.split_whitespace().next().unwrap().parse().unwrap()
}

pub(crate) async fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    pipe::Receiver::from_owned_fd(fd).unwrap().read_to_string(&mut text).await.unwrap();
    text
}

/// Everything a terminal says until its other end closes (which reads as EIO).
pub(crate) async fn read_terminal(master: OwnedFd) -> String {
    let mut master = pipe::Receiver::from_owned_fd_unchecked(master).unwrap();
    let mut text = Vec::new();
    let end = master.read_to_end(&mut text).await;
    assert_eq!(end.unwrap_err().raw_os_error(), Some(5));
    String::from_utf8(text).unwrap()
}
