//! What a worker knows about its pod that the runtime does not keep: failed attempts, their back-off, and what the
//! probes say. Losing it (a restart of the agent) is harmless: back-offs start over, as a kubelet's do.

use crate::kubelet::backoff::Backoff;
use crate::kubelet::observed::Granted;
use jiff::Timestamp;
use std::collections::BTreeMap;
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

/// Everything remembered about one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// By container name.
    pub failures: BTreeMap<String, StartFailure>,
    /// Back-off of restarts, by container name.
    pub restarts: BTreeMap<String, Backoff>,
    /// Back-off of pulls, by image.
    pub pulls: BTreeMap<String, Backoff>,
    /// By container id; a running container without an entry has not been judged yet.
    pub health: BTreeMap<String, Health>,
    /// Why the node could never grant what the spec asks for.
    pub infeasible: Option<String>,
    /// What the runtime would not grant, by container id: it is not asked twice.
    pub refused: BTreeMap<String, Granted>,
    /// No new sandbox before then.
    pub sandbox_retry_at: Option<Timestamp>,
    /// How often in a row the volumes could not be made.
    pub volume_failures: u32,
}
