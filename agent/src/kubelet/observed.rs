//! What the runtime says about one pod, in the kubelet's terms: its sandboxes and containers, newest first. This is
//! the whole memory that survives a restart of the agent: hash and restart count ride in CRI annotations.

use crate::kubelet::labels;
use jiff::Timestamp;
use knarr_cri::v1::{
    ContainerFilter, ContainerResources, ContainerState, ContainerStatus, ContainerStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState,
    PodSandboxStatusRequest,
};
use knarr_cri::{Code, RuntimeService, Status};
use std::collections::HashMap;

/// A sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    #[allow(missing_docs)]
    pub id: String,
    /// Its namespaces and network exist.
    pub ready: bool,
    #[allow(missing_docs)]
    pub created_at: Timestamp,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Addresses, primary first; empty for a host-network pod.
    pub ips: Vec<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    #[allow(missing_docs)]
    Created,
    #[allow(missing_docs)]
    Running,
    #[allow(missing_docs)]
    Exited,
    /// The runtime lost track of it.
    Unknown,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedContainer {
    #[allow(missing_docs)]
    pub id: String,
    #[allow(missing_docs)]
    pub sandbox_id: String,
    /// Name in the pod's spec.
    pub name: String,
    /// How many containers of this name were started before it.
    pub restart_count: u32,
    /// Hash of the spec it was made from.
    pub hash: String,
    #[allow(missing_docs)]
    pub state: RunState,
    #[allow(missing_docs)]
    pub created_at: Timestamp,
    #[allow(missing_docs)]
    pub started_at: Option<Timestamp>,
    #[allow(missing_docs)]
    pub finished_at: Option<Timestamp>,
    #[allow(missing_docs)]
    pub exit_code: i32,
    /// `OOMKilled`, `Completed`, `Error`, or the runtime's own word.
    pub reason: String,
    #[allow(missing_docs)]
    pub message: String,
    /// Name the image was asked for by.
    pub image: String,
    /// What the image really is.
    pub image_id: String,
    #[allow(missing_docs)]
    pub log_path: String,
    /// Who its first process runs as; none where the runtime does not say.
    pub user: Option<User>,
    /// What its cgroup allows; none where the runtime does not say.
    pub granted: Option<Granted>,
    /// Host path of the termination message, with the policy that reads it.
    pub termination_message: Option<TerminationMessage>,
}

/// Whose processes those of a container are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    #[allow(missing_docs)]
    pub uid: i64,
    #[allow(missing_docs)]
    pub gid: i64,
    #[allow(missing_docs)]
    pub groups: Vec<i64>,
}

/// Limits and shares of a container; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Granted {
    #[allow(missing_docs)]
    pub cpu_shares: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Bytes.
    pub memory: i64,
    /// Thousandths of bytes, of a container that is restarted when it changes; the kernel knows nothing of it.
    pub memory_request: Option<i64>,
    /// It has processors for itself, as many as it began with, and no quota.
    pub own_processors: bool,
}

impl Granted {
    /// A limit that is taken away entirely needs a new container, so zero differs from nothing.
    pub fn differs_in_cpu(self, wanted: Granted) -> bool {
        let other_quota = wanted.cpu_quota != 0 && self.cpu_quota != wanted.cpu_quota;
        !self.own_processors && (self.cpu_shares != wanted.cpu_shares || other_quota)
    }

    /// The same for memory.
    pub fn differs_in_memory(self, wanted: Granted) -> bool {
        let other_request = self.memory_request.is_some()
            && wanted.memory_request.is_some()
            && self.memory_request != wanted.memory_request;
        (wanted.memory != 0 && self.memory != wanted.memory) || other_request
    }
}

/// Where a container may have left its last words.
#[derive(Debug, Clone, PartialEq)]
pub struct TerminationMessage {
    /// File on the host.
    pub host_path: String,
    /// Use the end of the log when the file is empty and the exit was not clean.
    pub fall_back_to_logs: bool,
}

impl ObservedContainer {
    /// True unless it may still have a process.
    pub fn is_dead(&self) -> bool {
        self.state == RunState::Exited
    }
}

/// Everything the runtime has of one pod, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObservedPod {
    #[allow(missing_docs)]
    pub sandboxes: Vec<Sandbox>,
    #[allow(missing_docs)]
    pub containers: Vec<ObservedContainer>,
}

impl ObservedPod {
    /// The sandbox in use, if it works.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of that name that ended before `than` began.
    pub fn previous(&self, than: &ObservedContainer) -> Option<&ObservedContainer> {
        self.containers.iter().filter(|other| other.name == than.name).find(|other| {
            other.is_dead() && (other.restart_count, other.created_at) < (than.restart_count, than.created_at)
        })
    }

    /// Containers with a process, or that may have one.
    pub fn living(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.iter().filter(|container| !container.is_dead() && !self.came_too_late(container))
    }

    /// Made, but its sandbox was stopped before it could begin: it never will, and nothing can end it.
    fn came_too_late(&self, container: &ObservedContainer) -> bool {
        let own = |sandbox: &&Sandbox| sandbox.id == container.sandbox_id;
        container.state == RunState::Created && !self.sandboxes.iter().find(own).is_some_and(|own| own.ready)
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        self.containers.sort_by_key(|c| std::cmp::Reverse((c.restart_count, c.created_at)));
    }
}

/// Asks the runtime about the pod with this uid.
pub async fn observe(runtime: &dyn RuntimeService, uid: &str) -> Result<ObservedPod, Status> {
    let selector = HashMap::from([(labels::POD_UID.to_string(), uid.to_string())]);
    let filter = PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
    let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?.items;
    let filter = ContainerFilter { label_selector: selector, ..Default::default() };
    let containers =
        runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await?.containers;

    let mut pod = ObservedPod::default();
    for sandbox in sandboxes {
        pod.sandboxes.push(sandbox_of(runtime, sandbox).await?);
    }
    for container in containers {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        match runtime.container_status(request).await {
            Ok(answer) => {
                pod.containers.extend(answer.status.map(|s| container_of(s, container.pod_sandbox_id)))
            }
            // Removed since it was listed.
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    pod.sort();
    Ok(pod)
}

async fn sandbox_of(runtime: &dyn RuntimeService, listed: PodSandbox) -> Result<Sandbox, Status> {
    let ready = listed.state == PodSandboxState::SandboxReady as i32;
    let mut ips = Vec::new();
    if ready {
        let request = PodSandboxStatusRequest { pod_sandbox_id: listed.id.clone(), verbose: false };
        match runtime.pod_sandbox_status(request).await {
            Ok(answer) => {
                let network = answer.status.and_then(|status| status.network).unwrap_or_default();
                ips.extend(Some(network.ip).filter(|ip| !ip.is_empty()));
                ips.extend(network.additional_ips.into_iter().map(|ip| ip.ip));
            }
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    let attempt = listed.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    Ok(Sandbox { id: listed.id, ready, created_at: timestamp(listed.created_at), attempt, ips })
}

fn container_of(status: ContainerStatus, sandbox_id: String) -> ObservedContainer {
    let metadata = status.metadata.clone().unwrap_or_default();
    let annotation = |key: &str| status.annotations.get(key).cloned();
    let restart_count = annotation(labels::RESTART_COUNT).and_then(|count| count.parse().ok());
    ObservedContainer {
        sandbox_id,
        restart_count: restart_count.unwrap_or(metadata.attempt),
        name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        hash: annotation(labels::CONTAINER_HASH).unwrap_or_default(),
        state: run_state(status.state),
        created_at: timestamp(status.created_at),
        started_at: (status.started_at > 0).then(|| timestamp(status.started_at)),
        finished_at: (status.finished_at > 0).then(|| timestamp(status.finished_at)),
        exit_code: status.exit_code,
        termination_message: termination_message(&status),
        reason: status.reason,
        message: status.message,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_id: if status.image_ref.is_empty() { status.image_id } else { status.image_ref },
        user: status.user.and_then(|user| user.linux).map(|linux| User {
            uid: linux.uid,
            gid: linux.gid,
            groups: linux.supplemental_groups,
        }),
        granted: granted(
            status.resources,
            annotation(labels::MEMORY_REQUEST).and_then(|text| text.parse().ok()),
            annotation(labels::OWN_PROCESSORS).is_some(),
        ),
        log_path: status.log_path,
        id: status.id,
    }
}

fn termination_message(status: &ContainerStatus) -> Option<TerminationMessage> {
    let path = status.annotations.get(labels::TERMINATION_MESSAGE_PATH)?;
    let mount = status.mounts.iter().find(|mount| &mount.container_path == path)?;
    let policy = status.annotations.get(labels::TERMINATION_MESSAGE_POLICY);
    Some(TerminationMessage {
        host_path: mount.host_path.clone(),
        fall_back_to_logs: policy.is_some_and(|policy| policy == "FallbackToLogsOnError"),
    })
}

fn granted(
    resources: Option<ContainerResources>,
    memory_request: Option<i64>,
    own_processors: bool,
) -> Option<Granted> {
    let linux = resources?.linux?;
    Some(Granted {
        cpu_shares: linux.cpu_shares,
        cpu_quota: linux.cpu_quota.max(0),
        memory: linux.memory_limit_in_bytes.max(0),
        memory_request,
        own_processors,
    })
}

fn run_state(state: i32) -> RunState {
    match ContainerState::try_from(state) {
        Ok(ContainerState::ContainerCreated) => RunState::Created,
        Ok(ContainerState::ContainerRunning) => RunState::Running,
        Ok(ContainerState::ContainerExited) => RunState::Exited,
        _ => RunState::Unknown,
    }
}

/// CRI counts nanoseconds since 1970.
pub fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}
