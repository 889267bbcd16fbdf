//! A control plane alone (`knarr server`), for tests of what clients see: no node, no privileges, ready at once.

use crate::bins::{self, Said};
use crate::eventually::eventually;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running `knarr server` in a directory of its own.
#[derive(Debug)]
pub struct Server {
    directory: tempfile::TempDir,
    child: Child,
    /// Zero for a free one.
    port: u16,
}

impl Server {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it is not ready within two minutes.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(Self::directory(), &[])
    }

    /// A directory for one, for tests that put something into it first.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn directory() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("knarr-server-").tempdir().expect("a directory")
    }

    /// Starts one in `directory` (its data is in `data`) with further arguments.
    ///
    /// # Panics
    /// When it is not ready within two minutes.
    #[must_use]
    pub fn start_in(directory: tempfile::TempDir, arguments: &[&str]) -> Self {
        Self::start_on(0, directory, arguments)
    }

    /// The same on a port of the caller's.
    ///
    /// # Panics
    /// When it is not ready within two minutes.
    #[must_use]
    pub fn start_on(port: u16, directory: tempfile::TempDir, arguments: &[&str]) -> Self {
        let child = spawn(directory.path(), port, arguments);
        let server = Self { directory, child, port };
        server.wait_until_ready();
        server
    }

    /// Kills it without a word.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Starts it again on what it left; it must not run.
    ///
    /// # Panics
    /// When it is not ready within two minutes.
    pub fn again(&mut self, arguments: &[&str]) {
        self.again_on(self.port, arguments);
    }

    /// The same on another port.
    ///
    /// # Panics
    /// When it is not ready within two minutes.
    pub fn again_on(&mut self, port: u16, arguments: &[&str]) {
        self.child = spawn(self.directory.path(), port, arguments);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        eventually("knarr server is ready", Duration::from_secs(120), || {
            let log = std::fs::read_to_string(self.path("server.log")).unwrap_or_default();
            if log.contains("is ready") { Ok(()) } else { Err(log) }
        });
    }

    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file beside it; gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("a file");
        self.path(name).display().to_string()
    }

    /// Its resident memory, bytes.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).expect("VmRSS");
        kib.parse::<u64>().expect("a number") << 10
    }

    /// Where it serves: `https://127.0.0.1:PORT`.
    ///
    /// # Panics
    /// When its kubeconfig does not say.
    #[must_use]
    pub fn url(&self) -> String {
        let text = std::fs::read_to_string(self.path("data/admin.kubeconfig")).expect("a kubeconfig");
        let found = text.lines().find_map(|line| line.trim().strip_prefix("server:"));
        found.expect("a server").trim().trim_matches('"').to_owned()
    }

    /// A request of its administrator by curl; nothing is sent yet.
    ///
    /// # Panics
    /// When its token cannot be read.
    #[must_use]
    pub fn curl(&self, path: &str) -> Command {
        let token = std::fs::read_to_string(self.path("data/pki/admin.token")).expect("a token");
        let mut command = Command::new("curl");
        command.args(["-sk", "--max-time", "50", "-H", &format!("Authorization: Bearer {}", token.trim())]);
        command.arg(format!("{}{path}", self.url()));
        command
    }

    /// Runs kubectl as its administrator.
    #[must_use]
    pub fn kubectl(&self, kubectl: &Path, arguments: &[&str]) -> Said {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.path("data/admin.kubeconfig")).args(arguments);
        command.env("HOME", self.directory.path()).env("KUBE_EDITOR", "sed -i s/before/after/");
        bins::run(&mut command)
    }

    /// Runs one of our own commands on its directories.
    #[must_use]
    pub fn knarr(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(bins::find("knarr"));
        command.arg("--data-dir").arg(self.path("data")).arg("--state-dir").arg(self.path("state"));
        bins::run(command.args(arguments))
    }
}

fn spawn(directory: &Path, port: u16, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(directory.join("server.log")).expect("server.log");
    let mut command = Command::new(bins::find("knarr"));
    command.arg("--data-dir").arg(directory.join("data")).arg("--state-dir").arg(directory.join("state"));
    command.args(["server", "--listen", &format!("127.0.0.1:{port}")]).args(arguments).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("server.log")).stderr(log).spawn().expect("knarr server")
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
