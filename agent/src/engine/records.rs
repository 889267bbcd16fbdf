//! What the engine must remember of a sandbox and of a container, so that a restart of the engine (or an upgrade)
//! finds everything again: the request as it was given, and what became of it.
//!
//! Records are plain data. Which state CRI shows is a function of them, so it cannot drift.

use knarr_cri::v1::{self, ContainerConfig, PodSandboxConfig};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// How far a sandbox has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SandboxPhase {
    /// Being set up; found after a crash, it is torn down.
    Starting,
    /// Its namespaces and network are there.
    Ready,
    /// Stopped, or lost in a reboot.
    Stopped,
}

/// A sandbox, as kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    /// The boot this sandbox lives in: after another boot nothing of it is left in the kernel.
    pub(crate) boot_id: String,
    pub(crate) phase: SandboxPhase,
    pub(crate) config: PodSandboxConfig,
    pub(crate) runtime_handler: String,
    /// Parent of its containers' cgroups, relative to each hierarchy's root.
    pub(crate) cgroup_parent: String,
    /// The parent was not there before, so it goes with the sandbox.
    pub(crate) owns_cgroup_parent: bool,
    /// The first is primary.
    pub(crate) addresses: Vec<IpAddr>,
}

impl SandboxRecord {
    /// What CRI calls the state: only a fully set up sandbox is ready.
    pub(crate) fn state(&self) -> v1::PodSandboxState {
        match self.phase {
            SandboxPhase::Ready => v1::PodSandboxState::SandboxReady,
            SandboxPhase::Starting | SandboxPhase::Stopped => v1::PodSandboxState::SandboxNotready,
        }
    }

    /// The namespaces the pod asked for; all its own where it asked for none.
    pub(crate) fn namespace_options(&self) -> v1::NamespaceOption {
        namespace_options(&self.config)
    }

    /// The pod lives in the network of the host.
    pub(crate) fn host_network(&self) -> bool {
        self.namespace_options().network() == v1::NamespaceMode::Node
    }

    /// The pod has a link of its own. In CRI's words every pod has, unless it lives in the host's network; in Docker's
    /// there is one with a loopback alone (`--network none`).
    pub(crate) fn has_link(&self) -> bool {
        matches!(self.namespace_options().network(), v1::NamespaceMode::Pod | v1::NamespaceMode::Target)
    }

    /// The pod uses the IPC objects of the host.
    pub(crate) fn host_ipc(&self) -> bool {
        self.namespace_options().ipc() == v1::NamespaceMode::Node
    }

    /// Two sandboxes must not have the same.
    pub(crate) fn name_key(&self) -> String {
        name_key(&self.config)
    }
}

/// The namespaces `config` asks for.
pub(crate) fn namespace_options(config: &PodSandboxConfig) -> v1::NamespaceOption {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.and_then(|context| context.namespace_options.clone()).unwrap_or_default()
}

/// The name under which a sandbox is reserved.
pub(crate) fn name_key(config: &PodSandboxConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt)
}

/// Numeric identity of a container's first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, the primary one among them.
    pub(crate) groups: Vec<u32>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    /// The process' status, or 128 + signal.
    pub(crate) code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`.
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: String,
    /// Nanoseconds since the epoch.
    pub(crate) finished_at: i64,
}

impl ExitRecord {
    /// From what the monitor saw. A process that went on and ended well is not called OOM-killed because the kernel
    /// killed some other process of its cgroup.
    pub(crate) fn observed(exit: &super::monitors::Exit) -> Self {
        let reason = match (exit.code, exit.oom_killed) {
            (0, _) => "Completed",
            (_, true) => "OOMKilled",
            (_, false) => "Error",
        };
        Self { code: exit.code, reason: reason.into(), message: String::new(), finished_at: exit.finished_at }
    }

    /// Ended while nobody watched.
    pub(crate) fn unseen(code: i32, finished_at: i64) -> Self {
        Self { code, reason: "Unknown".into(), message: String::new(), finished_at }
    }

    /// Never became a running process.
    pub(crate) fn start_error(message: String, finished_at: i64) -> Self {
        Self { code: 128, reason: "StartError".into(), message, finished_at }
    }
}

/// A container, as kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) boot_id: String,
    pub(crate) config: ContainerConfig,
    /// Digest of the image's config.
    pub(crate) image_id: String,
    /// Repository and digest the image was pulled by; the image id where it was not pulled.
    pub(crate) image_ref: String,
    /// Nanoseconds since the epoch, as is `started_at`, which is 0 before the start.
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    /// Of the first process, in our pid namespace.
    pub(crate) pid: Option<i32>,
    pub(crate) exit: Option<ExitRecord>,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) user: UserRecord,
    /// As `kill` takes it.
    pub(crate) stop_signal: String,
    /// The mounts as CRI shows them: host paths resolved, image volumes with their digest.
    pub(crate) mounts: Vec<v1::Mount>,
    /// Its start goes on from the checkpoint that lies in its directory of checkpoints.
    #[serde(default)]
    pub(crate) from_checkpoint: bool,
    /// Nobody can ask for it any more; the record is there until nothing is left of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) removed: bool,
}

impl ContainerRecord {
    /// What CRI calls the state.
    pub(crate) fn state(&self) -> v1::ContainerState {
        match (&self.exit, self.started_at) {
            (Some(_), _) => v1::ContainerState::ContainerExited,
            (None, 0) => v1::ContainerState::ContainerCreated,
            (None, _) => v1::ContainerState::ContainerRunning,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state() == v1::ContainerState::ContainerRunning
    }

    /// The cgroup limits that hold now.
    pub(crate) fn resources(&self) -> Option<&v1::LinuxContainerResources> {
        self.config.linux.as_ref().and_then(|linux| linux.resources.as_ref())
    }
}

/// The name under which a container is reserved within its sandbox.
pub(crate) fn container_name_key(sandbox_id: &str, config: &ContainerConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!("{}_{sandbox_id}_{}", metadata.name, metadata.attempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::monitors::Exit;

    #[test]
    fn reasons_follow_code_and_oom() {
        let cases =
            [(0, false, "Completed"), (0, true, "Completed"), (1, false, "Error"), (137, true, "OOMKilled")];
        for (code, oom_killed, reason) in cases {
            let exit = Exit { code, oom_killed, finished_at: 1, timed_out: false };
            assert_eq!(ExitRecord::observed(&exit).reason, reason, "{code} {oom_killed}");
        }
    }

    #[test]
    fn a_pod_without_a_security_context_has_namespaces_of_its_own() {
        let options = namespace_options(&PodSandboxConfig::default());
        assert_eq!(options.network(), v1::NamespaceMode::Pod);
        assert_eq!(options.ipc(), v1::NamespaceMode::Pod);
    }
}
