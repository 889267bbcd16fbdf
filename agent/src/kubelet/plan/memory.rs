//! What a worker knows about its pod that the runtime does not keep: failed attempts, their back-off, and what the
//! probes say. Losing it (a restart of the agent) is harmless: back-offs start over, as a kubelet's do.

use super::resize::ResizePending;
use crate::kubelet::backoff::Backoff;
use crate::kubelet::observed::Granted;
use crate::kubelet::pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The last attempt to start a container failed before it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// `ErrImagePull`, `CreateContainerConfigError`, `RunContainerError`, ...
    pub reason: String,
    #[allow(missing_docs)]
    pub message: String,
    /// No attempt before then.
    pub retry_at: Timestamp,
    /// From then on the reason is shown as a back-off (`ImagePullBackOff`), with this message.
    pub then: Option<(Timestamp, String)>,
    /// The container had been made: what follows is a restart, with a restart's back-off.
    pub begun: bool,
}

/// A probe has given up on a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhealthy {
    /// `liveness` or `startup`.
    pub probe: &'static str,
    /// The probe's own grace period.
    pub grace: Option<Duration>,
}

/// What the probes say about one running container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// The startup probe has succeeded, or there is none, and the postStart hook has returned.
    pub started: bool,
    /// The readiness probe succeeds, or there is none.
    pub ready: bool,
    /// It must be restarted.
    pub unhealthy: Option<Unhealthy>,
}

/// The runtime did not give a container what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    #[allow(missing_docs)]
    pub wanted: Granted,
    /// For the condition that tells of it.
    pub message: String,
    /// It is not asked again before then.
    pub retry_at: Timestamp,
}

/// Everything remembered about one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// By container name.
    pub failures: BTreeMap<String, StartFailure>,
    /// Containers that the batch under way is to start.
    pub starting: BTreeSet<String>,
    /// Back-off of restarts, by container name and the hash of what it is made from: another image starts anew.
    pub restarts: BTreeMap<(String, String), Backoff>,
    /// Containers that were ended only for their successors to start, by id, with the time of the exit before theirs.
    pub replaced: BTreeMap<String, Option<Timestamp>>,
    /// Back-off of pulls, by image.
    pub pulls: BTreeMap<String, Backoff>,
    /// By container id; a running container without an entry has not been judged yet.
    pub health: BTreeMap<String, Health>,
    /// Why the pod does not have what its spec asks for.
    pub resize_pending: Option<ResizePending>,
    /// What the runtime would not grant, by container id: it is asked again now and then.
    pub refused: BTreeMap<String, Refused>,
    /// No new sandbox before then.
    pub sandbox_retry_at: Option<Timestamp>,
    /// How often in a row the volumes could not be made.
    pub volume_failures: u32,
}

impl Memory {
    /// The key of a container's back-off.
    pub fn made(container: &Container) -> (String, String) {
        (container.name.clone(), pod::container_hash(container))
    }

    /// The back-off of a container's restarts.
    pub fn backoff_of(&self, container: &Container) -> Option<&Backoff> {
        self.restarts.get(&Self::made(container))
    }
}
