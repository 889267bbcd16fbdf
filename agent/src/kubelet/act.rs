//! Carries out what the plan says: thin, in order, telling the worker what became of each step. An action that
//! fails leaves the rest of its batch to be planned anew from what is then observed.

mod kill;
mod resize;
mod sandbox;
mod start;
mod turns;

pub use sandbox::mount_failed;

use crate::kubelet::host::{CALL_DEADLINE, Host, within};
use crate::kubelet::log_files;
use crate::kubelet::observed::{Granted, ObservedPod};
use crate::kubelet::plan::Action;
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::{RemoveContainerRequest, RemovePodSandboxRequest};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What became of an action, for the worker's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// No sandbox; try again later.
    SandboxFailed {
        /// It is the volumes that could not be made.
        by_volumes: bool,
    },
    /// There is a sandbox now.
    SandboxCreated,
    /// A container could not be started.
    StartFailed {
        #[allow(missing_docs)]
        container: String,
        /// `ErrImagePull`, `CreateContainerError`, ...
        reason: String,
        #[allow(missing_docs)]
        message: String,
        /// The image, where pulling it was what failed.
        pull_of: Option<String>,
    },
    /// The runtime does not grant a container what it asks for.
    ResizeRefused {
        #[allow(missing_docs)]
        id: String,
        #[allow(missing_docs)]
        wanted: Granted,
        #[allow(missing_docs)]
        message: String,
    },
    /// A container runs, and its postStart hook has returned.
    Started {
        #[allow(missing_docs)]
        container: String,
        #[allow(missing_docs)]
        id: String,
    },
}

/// One batch of actions on one pod.
#[derive(Debug, Clone)]
pub struct Batch {
    #[allow(missing_docs)]
    pub host: Arc<Host>,
    #[allow(missing_docs)]
    pub pod: Arc<Pod>,
    /// What the plan was made from.
    pub observed: ObservedPod,
    /// To the worker.
    pub reports: mpsc::UnboundedSender<Box<Report>>,
    /// The pod must stop: pulls and hooks are given up.
    pub cancel: CancellationToken,
}

impl Batch {
    /// Carries out the actions in order; stops early when the pod must stop or the ground is gone.
    pub async fn run(self, actions: Vec<Action>) {
        for action in &actions {
            if self.cancel.is_cancelled() && !matches!(action, Action::StopPod { .. }) {
                return;
            }
            if let Err(error) = self.act(action).await {
                tracing::warn!(pod = crate::kubelet::pod::described(&self.pod), ?action, "{error}");
                return;
            }
        }
        if actions.iter().any(|action| matches!(action, Action::Resize { .. })) {
            self.tell_resized();
        }
    }

    async fn act(&self, action: &Action) -> Result<(), String> {
        match action {
            Action::StopPod { grace } => self.stop_pod(*grace).await,
            Action::CreateSandbox { attempt } => self.create_sandbox(*attempt).await,
            Action::Start { container, attempt, .. } => {
                self.start(container, *attempt).await;
                Ok(())
            }
            Action::Kill { id, container, message, grace, .. } => {
                self.kill(id, container, message, *grace).await
            }
            Action::Resize { id, container } => self.resize(id, container).await,
            Action::RemoveContainer { id } => self.remove_container(id).await,
            Action::RemoveSandbox { id } => {
                let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
                let removed = within(CALL_DEADLINE, self.host.runtime.remove_pod_sandbox(request)).await;
                removed.map(drop).map_err(|status| format!("RemovePodSandbox {id}: {}", status.message()))
            }
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), String> {
        let request = RemoveContainerRequest { container_id: id.to_string() };
        let removed = within(CALL_DEADLINE, self.host.runtime.remove_container(request)).await;
        removed.map_err(|status| format!("RemoveContainer {id}: {}", status.message()))?;
        let Some(container) = self.observed.containers.iter().find(|container| container.id == id) else {
            return Ok(());
        };
        let link = self.host.paths.log_link(&self.pod, &container.name, id);
        let log = PathBuf::from(&container.log_path);
        let remove = move || log_files::remove_one(&log, &link);
        let removed = tokio::task::spawn_blocking(remove).await.map_err(|error| error.to_string())?;
        removed.map_err(|error| format!("log of container {id}: {error}"))
    }

    fn report(&self, report: Report) {
        // The worker is gone only when the agent stops.
        let _ = self.reports.send(Box::new(report));
    }
}
