//! The kubelet's decisions as one pure function: the pod as it should be, the pod as the runtime shows it, what
//! happened since (failures, probe verdicts) and the time give the next actions, the reasons why containers wait,
//! and the moment to look again. It has no clock and no IO; running it twice on the same input gives the same plan.
//!
//! One plan is one batch: the worker carries it out in order, observes again and plans again. So a plan never needs
//! to foresee the outcome of its own actions.

mod containers;
mod ending;
mod memory;
mod resize;
#[cfg(test)]
mod tests;

pub use resize::{
    RESIZE_PENDING, ResizePending, as_granted, keeps_processors, leaves_memory, pending_of, resize_pending,
    takes_memory, wanted, with_resources_of,
};

pub use memory::{Health, Memory, Refused, StartFailure, Unhealthy};

use crate::kubelet::observed::ObservedPod;
use crate::kubelet::pod::{self, RestartPolicy};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The pod as it should be.
    pub pod: &'a Pod,
    /// The pod as it is.
    pub observed: &'a ObservedPod,
    /// What the runtime does not remember.
    pub memory: &'a Memory,
    /// Set when the pod must stop.
    pub ending: Option<&'a Ending>,
    /// The node cannot give the pod what it insists on: nothing of it starts.
    pub blocked: bool,
    #[allow(missing_docs)]
    pub now: Timestamp,
}

/// Why and how a pod must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Nothing may remain: the object is deleted or about to be. Otherwise containers stay for their logs.
    pub remove: bool,
    /// `status.reason` and `status.message` of a pod that the node itself failed (`DeadlineExceeded`, `Evicted`).
    pub failure: Option<(String, String)>,
}

/// One step that the worker can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop every container (main ones together, then sidecars in reverse order), then the sandbox.
    StopPod {
        #[allow(missing_docs)]
        grace: Duration,
    },
    /// Make namespaces and network.
    CreateSandbox {
        #[allow(missing_docs)]
        attempt: u32,
    },
    /// Pull the image if needed, create and start a container.
    Start {
        #[allow(missing_docs)]
        container: String,
        /// Its restart count.
        attempt: u32,
        /// An earlier container of this name has exited, so this start counts for the back-off.
        after_exit: bool,
    },
    /// Stop one container of a pod that goes on.
    Kill {
        #[allow(missing_docs)]
        id: String,
        #[allow(missing_docs)]
        container: String,
        /// Text of the Killing event.
        message: String,
        #[allow(missing_docs)]
        grace: Duration,
        /// Only for its successor to start.
        replaced: bool,
    },
    /// Give a running container what its spec asks for now.
    Resize {
        #[allow(missing_docs)]
        id: String,
        #[allow(missing_docs)]
        container: String,
    },
    /// Forget a dead container and its log.
    RemoveContainer {
        #[allow(missing_docs)]
        id: String,
    },
    /// Forget a dead sandbox and what is left in it.
    RemoveSandbox {
        #[allow(missing_docs)]
        id: String,
    },
}

/// Why a container that should run does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// One word, such as `CrashLoopBackOff`.
    pub reason: String,
    #[allow(missing_docs)]
    pub message: String,
}

/// The outcome of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be carried out in this order.
    pub actions: Vec<Action>,
    /// By container name.
    pub waiting: BTreeMap<String, Waiting>,
    /// Decide again then, even when nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// Every container has run to its end and none will be started again.
    pub completed: bool,
    /// Nothing runs and nothing of what the plan must remove is left.
    pub stopped: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn wait(&mut self, container: &str, reason: &str, message: String) {
        self.waiting.insert(container.to_string(), Waiting { reason: reason.to_string(), message });
    }
}

/// Decides what to do next.
pub fn plan(world: World<'_>) -> Plan {
    let mut plan = Plan::default();
    if let Some(ending) = world.ending {
        ending::stop(world, ending, &mut plan);
        return plan;
    }
    if world.blocked {
        hold_back(world, &mut plan);
        return plan;
    }
    if containers::all_done(world) {
        plan.completed = true;
        ending::settle(world, &mut plan);
        return plan;
    }
    match world.observed.ready_sandbox() {
        Some(sandbox) => {
            let strays = world.observed.living().any(|container| container.sandbox_id != sandbox.id);
            if strays {
                plan.actions.push(Action::StopPod { grace: pod::grace_period(world.pod) });
            } else {
                containers::advance(world, sandbox, &mut plan);
            }
        }
        None => new_sandbox(world, &mut plan),
    }
    plan
}

/// Every container waits, and what runs nevertheless is stopped.
fn hold_back(world: World<'_>, plan: &mut Plan) {
    if world.observed.living().next().is_some() || world.observed.ready_sandbox().is_some() {
        plan.actions.push(Action::StopPod { grace: pod::grace_period(world.pod) });
    }
    for (_, container) in pod::containers(world.pod) {
        plan.wait(&container.name, "Blocked", String::new());
    }
}

/// Containers without a working sandbox are stopped first: they share namespaces with nothing that follows.
fn new_sandbox(world: World<'_>, plan: &mut Plan) {
    if world.observed.living().next().is_some() {
        plan.actions.push(Action::StopPod { grace: pod::grace_period(world.pod) });
        return;
    }
    if let Some(retry_at) = world.memory.sandbox_retry_at.filter(|at| *at > world.now) {
        plan.wake(retry_at);
        return;
    }
    let attempt = world.observed.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1);
    plan.actions.push(Action::CreateSandbox { attempt });
}

/// Whether a container that ended with `exit_code` is started again.
fn restarts(policy: RestartPolicy, exit_code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}
