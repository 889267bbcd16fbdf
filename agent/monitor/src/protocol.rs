//! Requests and answers: one JSON object per line over a unix stream socket, one request per connection.
//!
//! ```text
//! create, restore, forget, reopen_log, shutdown   request -> done | created | error
//! wait                                   request -> exited (when it has)
//! exec      request -> started, with descriptors: [pty master] or [stdout, stderr] or [stdin, stdout, stderr]
//!                   -> exited. Closing the connection before that kills the process tree.
//! attach    request -> done; from then on both sides speak attach frames. It may come before the container is
//!                   created; then no output is lost. The first client of a container with a stdin or a terminal also
//!                   gets the last 64 KiB of what the container had said before.
//! ```
//!
//! Descriptors travel as SCM_RIGHTS with the first byte of their answer. The version is in every request: a monitor
//! lives through upgrades of the engine, so an engine must be able to speak the version before its own.

use crate::exit_file::Exit;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The version of this file.
pub const VERSION: u32 = 1;

/// Longest request line, in bytes: a process object may carry a full environment (ARG_MAX is 2 MiB).
pub const MAX_REQUEST: usize = 4 << 20;

/// Most descriptors that travel with one answer.
pub const MAX_DESCRIPTORS: usize = 3;

/// File names in a monitor's directory.
pub const SOCKET: &str = "monitor.sock";
/// Held by the living monitor.
pub const LOCK: &str = "monitor.lock";
/// Errors of the monitor itself.
pub const ERROR_LOG: &str = "monitor.log";
/// Notes about living containers, for the next monitor.
pub const KEPT: &str = "containers";
/// Files of runtime calls in flight.
pub const CALLS: &str = "calls";

/// One line to the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// See [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// What a monitor can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run `runtime create`.
    Create(Create),
    /// Run `runtime restore`.
    Restore(Restore),
    /// Run `runtime exec`.
    Exec(Exec),
    /// Answer when the container has ended.
    Wait(Container),
    /// Drop all that is kept about a container.
    Forget(Container),
    /// Close and open the container's log.
    ReopenLog(Container),
    /// Join the container's stdio.
    Attach(Container),
    /// End; refused while a container lives.
    Shutdown {},
}

/// A container by its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
}

/// A container to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// The runtime's id.
    pub id: String,
    /// The OCI runtime's program and global arguments.
    pub runtime: Vec<String>,
    /// OCI bundle directory.
    pub bundle: PathBuf,
    /// CRI log file.
    pub log_path: Option<PathBuf>,
    /// The process has a terminal.
    pub tty: bool,
    /// Keep a stdin for attached clients.
    pub stdin: bool,
    /// Close stdin when an attached client has ended its own.
    pub stdin_once: bool,
    /// Program and arguments to run when the container has ended and its exit is recorded; nothing where empty.
    #[serde(default)]
    pub on_exit: Vec<String>,
    /// Run `runtime run` instead: it is started as well.
    #[serde(default)]
    pub started: bool,
}

/// A container to make from a checkpoint: it runs at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restore {
    /// The container, as one that is created.
    pub container: Create,
    /// Where criu's images are.
    pub images: PathBuf,
    /// Where criu leaves its log.
    pub work: PathBuf,
}

/// A process to start in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// The runtime's id of the container.
    pub container_id: String,
    /// The OCI runtime's program and global arguments.
    pub runtime: Vec<String>,
    /// OCI process object (JSON text).
    pub process: String,
    /// The process has a terminal.
    pub tty: bool,
    /// A pipe for stdin is wanted.
    pub stdin: bool,
    /// The process tree is killed after this.
    pub timeout: Option<Duration>,
    /// Nobody stays with it: no stdio but a terminal, if it has one, and the connection ends when it runs.
    #[serde(default)]
    pub detached: bool,
}

/// One line from the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is so.
    Done {},
    /// The container exists; this is its init.
    Created {
        /// In the monitor's pid namespace.
        pid: i32,
    },
    /// The exec runs.
    Started {
        /// In the monitor's pid namespace.
        pid: i32,
    },
    /// The container or exec has ended.
    Exited(Exit),
    /// It failed.
    Error {
        /// In the runtime's words where the runtime failed.
        message: String,
    },
}
