//! How a pod ends: everything is stopped within the grace period, then, if the object is going, forgotten.

use super::{Action, Ending, Plan, World};
use crate::kubelet::pod;
use std::time::Duration;

/// The pod must stop, and perhaps vanish.
pub(super) fn stop(world: World<'_>, ending: &Ending, plan: &mut Plan) {
    if is_active(world) {
        plan.actions.push(Action::StopPod { grace: ending.grace });
    } else if ending.remove && !world.observed.is_empty() {
        forget(world, plan);
    } else {
        plan.stopped = true;
    }
}

/// The pod has run to its end: sidecars and the sandbox are let go, dead containers stay for their logs.
pub(super) fn settle(world: World<'_>, plan: &mut Plan) {
    if is_active(world) {
        plan.actions
            .push(Action::StopPod { grace: pod::grace_period(world.pod).max(Duration::from_secs(2)) });
    } else {
        plan.stopped = true;
    }
}

fn is_active(world: World<'_>) -> bool {
    world.observed.living().next().is_some() || world.observed.sandboxes.iter().any(|sandbox| sandbox.ready)
}

fn forget(world: World<'_>, plan: &mut Plan) {
    let containers = world.observed.containers.iter();
    plan.actions.extend(containers.map(|container| Action::RemoveContainer { id: container.id.clone() }));
    let sandboxes = world.observed.sandboxes.iter();
    plan.actions.extend(sandboxes.map(|sandbox| Action::RemoveSandbox { id: sandbox.id.clone() }));
}
