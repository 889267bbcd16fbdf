//! A container in the making: a root filesystem of busybox alone, a `config.json` as raw JSON, a state root of its own.

use crate::bins::{self, Said};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs the root filesystem has, all of them busybox.
const APPLETS: &[&str] = &[
    "cat", "dd", "echo", "env", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount", "ps",
    "pwd", "readlink", "rm", "sh", "sleep", "stat", "stty", "touch", "true", "tty", "umask", "wc",
];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One bundle and the runtime that runs it. Dropping it deletes the container.
#[derive(Debug)]
pub struct Bundle {
    directory: tempfile::TempDir,
    runtime: PathBuf,
    /// Unique on this machine.
    pub id: String,
    /// `config.json`; written before every command.
    pub config: Value,
}

impl Bundle {
    /// A container that runs a shell script, with our runtime.
    ///
    /// # Panics
    /// When the machine has no static busybox.
    pub fn shell(script: &str) -> Self {
        Self::with_runtime(bins::find("knarr-runtime"), script)
    }

    /// The same with another runtime.
    ///
    /// # Panics
    /// As above.
    pub fn with_runtime(runtime: PathBuf, script: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("knarr-bundle-").tempdir_in("/tmp").expect("a directory");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("kt-{}-{number}", std::process::id());
        let config = config(script, &id);
        let bundle = Bundle { directory, runtime, id, config };
        bundle.make_root();
        bundle
    }

    fn make_root(&self) {
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            std::fs::create_dir_all(self.rootfs().join(name)).expect("a directory");
        }
        bins::copy_program(Path::new("/bin/busybox"), &self.rootfs().join("bin/busybox"));
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", self.rootfs().join("bin").join(applet)).expect("a link");
        }
        std::fs::write(self.rootfs().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("a file");
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The container's root.
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Where the runtime keeps its state.
    pub fn state_root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A command of the runtime, ready to be run.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub fn command(&self, args: &[&str]) -> Command {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).expect("config.json");
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.state_root()).args(args);
        command
    }

    /// Runs `runtime VERB ID`, with flags in between.
    pub fn call(&self, verb: &str, flags: &[&str]) -> Said {
        let args = [&[verb], flags, &[self.id.as_str()]].concat();
        bins::run(&mut self.command(&args))
    }

    /// Runs `runtime VERB ID WORDS`.
    pub fn call_with(&self, verb: &str, flags: &[&str], words: &[&str]) -> Said {
        let args = [&[verb], flags, &[self.id.as_str()], words].concat();
        bins::run(&mut self.command(&args))
    }

    /// `run`, in the foreground.
    ///
    /// # Panics
    /// When the path is not UTF-8.
    pub fn run(&self) -> Said {
        self.call("run", &["--bundle", self.path().to_str().expect("UTF-8")])
    }

    /// What a shell script prints in a container whose configuration was changed, and that leaves nothing behind.
    ///
    /// # Panics
    /// As above.
    pub fn report(script: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut bundle = Self::shell(script);
        change(&mut bundle.config);
        let out = bundle.run().ok();
        bundle.assert_gone();
        out
    }

    /// `create`.
    ///
    /// # Panics
    /// As above.
    pub fn create(&self) -> Said {
        self.call("create", &["--bundle", self.path().to_str().expect("UTF-8")])
    }

    /// `create` and `start`.
    pub fn start(&self) {
        self.create().ok();
        self.call("start", &[]).ok();
    }

    /// The `status` of `state`.
    ///
    /// # Panics
    /// When there is no such container.
    pub fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.call("state", &[]).ok()).expect("JSON");
        state["status"].as_str().expect("a status").to_string()
    }

    /// Cgroup directories that carry the container's id.
    pub fn cgroups_left(&self) -> Vec<PathBuf> {
        let hierarchies =
            std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let tops = std::iter::once(PathBuf::from("/sys/fs/cgroup")).chain(hierarchies);
        tops.map(|top| top.join("knarr-tests").join(&self.id)).filter(|path| path.exists()).collect()
    }

    /// Nothing of the container is there any more.
    ///
    /// # Panics
    /// When something is.
    pub fn assert_gone(&self) {
        assert_eq!(self.cgroups_left(), Vec::<PathBuf>::new());
        assert!(!self.state_root().join(&self.id).exists(), "the state directory is left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!mounts.contains(self.path().to_str().expect("UTF-8")), "a mount is left");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // A test that failed has said enough already.
        drop(self.call("delete", &["--force"]));
    }
}

/// What most containers have: all namespaces, no devices but the usual ones, three capabilities.
fn config(script: &str, id: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "lab",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/knarr-tests/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    })
}
