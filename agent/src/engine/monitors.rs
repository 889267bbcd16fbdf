//! The engine's side of the monitors: one `knarr-monitor` process per pod, spoken to over one unix socket each.
//!
//! A monitor is the parent of all processes of its pod (it is the subreaper and runs `runtime create` and `runtime
//! exec` as its children), so it outlives us and is found again by its socket. What never needs a parent (`start`,
//! `kill`, `delete`, `update`) the engine runs itself.

mod attach;
mod channel;
mod exec;
mod launch;
mod unix;

pub(crate) use channel::Refused;
pub use launch::step_out;
pub use unix::UnixMonitors;

use async_trait::async_trait;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// What a monitor needs to run `runtime create`.
#[derive(Debug, Clone)]
pub struct CreateContainer {
    /// CRI container id, also the runtime's id.
    pub id: String,
    /// The OCI runtime and its global arguments, e.g. `["/usr/local/bin/knarr-runtime", "--root", "/run/knarr/runtime"]`.
    pub runtime: Vec<String>,
    /// OCI bundle directory.
    pub bundle: PathBuf,
    /// The CRI log; nothing is logged where absent.
    pub log_path: Option<PathBuf>,
    /// The process has a terminal (its pty is kept by the monitor).
    pub tty: bool,
    /// Keep a stdin open for attach.
    pub stdin: bool,
    /// Close stdin when the first attached client goes.
    pub stdin_once: bool,
    /// What the monitor runs when the container has ended; nothing where empty.
    pub on_exit: Vec<String>,
    /// It is started as well, with the same call of the runtime.
    pub started: bool,
    /// It goes on from a checkpoint: the runtime restores it, and it runs at once.
    pub restore: Option<Restore>,
}

/// Where a checkpoint is.
#[derive(Debug, Clone)]
pub struct Restore {
    /// criu's images.
    pub images: PathBuf,
    /// For criu's log.
    pub work: PathBuf,
}

/// What a monitor needs to run `runtime exec`.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    #[allow(missing_docs)]
    pub container_id: String,
    #[allow(missing_docs)]
    pub runtime: Vec<String>,
    /// The OCI process object, as JSON.
    pub process_json: String,
    #[allow(missing_docs)]
    pub tty: bool,
    /// A pipe for stdin is wanted.
    pub stdin: bool,
    /// The whole process tree is killed after this.
    pub timeout: Option<Duration>,
}

pub use knarr_monitor::exit_file::Exit;

/// A running exec: the engine owns the near ends of its stdio. Dropping it kills the process tree.
#[derive(Debug)]
pub struct ExecSession {
    /// Near end of stdin; the pty master where `tty`.
    pub stdin: Option<OwnedFd>,
    /// Near end of stdout; the pty master where `tty`.
    pub stdout: OwnedFd,
    /// Absent where `tty`.
    pub stderr: Option<OwnedFd>,
    /// Resolves when the process has ended.
    pub exit: tokio::sync::oneshot::Receiver<Result<Exit, String>>,
}

/// A live connection to a container's stdio, many at a time.
#[derive(Debug)]
pub struct AttachSession {
    /// Bytes for the container's stdin; dropping it is end-of-file for this client.
    pub stdin: tokio::sync::mpsc::Sender<Vec<u8>>,
    /// Output as it comes.
    pub output: tokio::sync::mpsc::Receiver<AttachOutput>,
    /// Terminal sizes (columns, rows).
    pub resize: tokio::sync::mpsc::Sender<(u16, u16)>,
}

/// A piece of a container's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachOutput {
    #[allow(missing_docs)]
    Stdout(Vec<u8>),
    #[allow(missing_docs)]
    Stderr(Vec<u8>),
}

/// All monitors of this node.
#[async_trait]
pub trait Monitors: Send + Sync + 'static {
    /// Starts the monitor of a sandbox (detached from us, in its own cgroup), or finds the one that runs.
    async fn ensure(&self, sandbox_id: &str) -> anyhow::Result<()>;

    /// Ends the monitor and removes its directory; its containers must be gone. Idempotent.
    async fn remove(&self, sandbox_id: &str) -> anyhow::Result<()>;

    /// Runs `runtime create` or `runtime restore`; answers the init's pid (in our pid namespace), or the runtime's own error text.
    async fn create_container(&self, sandbox_id: &str, request: CreateContainer) -> anyhow::Result<i32>;

    /// The recorded exit, if the container has ended; kept on disk until `forget`.
    async fn exit_of(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<Option<Exit>>;

    /// Resolves when the container has ended; at once if it has.
    async fn wait(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<Exit>;

    /// Drops what the monitor keeps about an ended container (also one that was never created).
    async fn forget(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<()>;

    /// Closes and opens the log again (after a rotation renamed it).
    async fn reopen_log(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<()>;

    /// Runs `runtime exec` with pipes, or a pty.
    async fn exec(&self, sandbox_id: &str, request: ExecProcess) -> anyhow::Result<ExecSession>;

    /// Runs `runtime exec` without stdio but a terminal, if it is to have one, and leaves the process to itself.
    async fn exec_detached(&self, sandbox_id: &str, request: ExecProcess) -> anyhow::Result<()>;

    /// Sets the size of an exec's terminal.
    fn resize_exec(&self, session: &ExecSession, columns: u16, rows: u16) -> anyhow::Result<()>;

    /// Joins the container's own stdio. Before the container is created this waits for it, and no output is lost.
    async fn attach(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<AttachSession>;
}
