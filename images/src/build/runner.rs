//! The seam to whatever executes a RUN: this crate mounts and commits, it knows no OCI runtime and no network.

use crate::error::Error;
use std::path::PathBuf;

/// Executes commands in root file systems.
pub trait Runner: Sync {
    /// Runs one command to its end and answers its exit status (128 and more: killed by a signal).
    ///
    /// Called on a thread with a mount namespace of its own, in which `rootfs` and the sources of all mounts can be
    /// seen: the command must be started from this thread. Beside the step's own mounts the runner may mount over
    /// /proc, /sys, /dev, /etc/resolv.conf and /etc/hosts, which must not be looked for in the image afterwards.
    ///
    /// # Errors
    /// When the command could not be started at all.
    fn run(&self, step: &RunStep<'_>) -> Result<i32, Error>;

    /// Fails once the build was given up: what is no command ends too.
    ///
    /// # Errors
    /// Then.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// One command.
#[derive(Clone)]
pub struct RunStep<'a> {
    /// No other step of this machine has this name.
    pub id: String,
    /// An empty directory for whatever the runner has to write down.
    pub scratch: PathBuf,
    /// The mounted root file system.
    pub rootfs: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts; there.
    pub workdir: String,
    /// `user[:group]`, names or numbers; root where empty.
    pub user: String,
    /// In this order.
    pub mounts: Vec<RunMount>,
    /// What it can reach.
    pub network: Network,
    /// Lines of its /etc/hosts besides this machine's: name and address.
    pub hosts: Vec<(String, String)>,
    /// How much it may use.
    pub limits: RunLimits,
    /// Takes what the command prints, piece by piece.
    pub output: &'a (dyn Fn(&[u8]) + Sync),
}

impl std::fmt::Debug for RunStep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunStep").field("id", &self.id).field("argv", &self.argv).finish_non_exhaustive()
    }
}

/// One mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// A directory or file of this machine.
    Bind {
        #[allow(missing_docs)]
        source: PathBuf,
        /// In the container.
        target: String,
        #[allow(missing_docs)]
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// In the container.
        target: String,
        /// Bytes.
        size: Option<u64>,
    },
}

impl RunMount {
    /// Where it is in the container.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// How much a RUN may use; what is absent is as for any process of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunLimits {
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// `nofile` and its like: name, soft limit, hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes, with the memory; -1 is any number.
    pub memory_swap: Option<i64>,
    /// Weight among others.
    pub cpu_shares: Option<u64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds in a period.
    pub cpu_quota: Option<i64>,
    /// List of CPUs.
    pub cpuset_cpus: String,
    /// List of memory nodes.
    pub cpuset_mems: String,
    /// The cgroup below which it has its own.
    pub cgroup_parent: String,
}

/// What a RUN can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// What this machine can.
    #[default]
    Host,
    /// Nothing.
    None,
}
