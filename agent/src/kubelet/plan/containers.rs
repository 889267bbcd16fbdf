//! Which containers of a pod with a working sandbox to start, kill or forget: init containers one after the other,
//! sidecars in between, then the main ones; each by its restart policy, its back-off and what its probes say.

use super::resize::resize;
use super::{Action, Plan, World, restarts};
use crate::kubelet::observed::{ObservedContainer, RunState, Sandbox};
use crate::kubelet::pod::{self, Kind, RestartPolicy};
use k8s_openapi::api::core::v1::Container;
use std::time::Duration;

/// True when no container of the pod will run again: every main one has ended for good, or an init container has
/// failed for good. A pod that has not begun is not done.
pub(super) fn all_done(world: World<'_>) -> bool {
    let policy = pod::restart_policy(world.pod);
    if policy == RestartPolicy::Always {
        return false;
    }
    let mains = &pod::spec(world.pod).containers;
    let ended = mains.iter().all(|container| ended_for_good(world, container, policy));
    ended || init_failed(world, policy)
}

fn ended_for_good(world: World<'_>, container: &Container, policy: RestartPolicy) -> bool {
    let latest = world.observed.latest(&container.name);
    latest.is_some_and(|latest| latest.is_dead() && stays_dead(world, container, latest, policy))
}

/// Whether a dead container has no successor. What was ended for one has it, however it ended.
fn stays_dead(
    world: World<'_>,
    container: &Container,
    dead: &ObservedContainer,
    policy: RestartPolicy,
) -> bool {
    !restarts(policy, dead.exit_code)
        && dead.hash == pod::container_hash(container)
        && !world.memory.replaced.contains_key(&dead.id)
}

fn init_failed(world: World<'_>, policy: RestartPolicy) -> bool {
    let mut init = pod::init_containers(world.pod).filter(|(kind, _)| *kind == Kind::Init);
    policy == RestartPolicy::Never
        && init.any(|(_, c)| world.observed.latest(&c.name).is_some_and(|l| l.is_dead() && l.exit_code != 0))
}

/// Plans the containers of a pod whose sandbox works.
pub(super) fn advance(world: World<'_>, sandbox: &Sandbox, plan: &mut Plan) {
    forget_old(world, plan);
    // Whoever looks into a pod looks into those that do not get on.
    for (container, _) in pod::ephemeral_containers(world.pod) {
        if world.observed.latest(&container.name).is_none() {
            start(world, &container, None, plan);
        }
    }
    if !initialized(world, sandbox, plan) {
        return;
    }
    for container in &pod::spec(world.pod).containers {
        advance_main(world, container, plan);
    }
}

/// Keeps, of each name, the newest container and the newest dead one (for its exit and its log); of the sandboxes
/// the newest and those that still hold a container.
fn forget_old(world: World<'_>, plan: &mut Plan) {
    let containers = &world.observed.containers;
    let mut kept_sandboxes = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let newer = containers[..index].iter().filter(|other| other.name == container.name);
        if container.is_dead() && newer.clone().any(ObservedContainer::is_dead) {
            plan.actions.push(Action::RemoveContainer { id: container.id.clone() });
        } else {
            kept_sandboxes.push(&container.sandbox_id);
        }
    }
    for sandbox in world.observed.sandboxes.iter().skip(1) {
        if !sandbox.ready && !kept_sandboxes.contains(&&sandbox.id) {
            plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
}

/// Plans init containers and sidecars; true when the main containers may start.
fn initialized(world: World<'_>, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    let in_sandbox =
        |name: &str| world.observed.latest(name).filter(|latest| latest.sandbox_id == sandbox.id);
    let begun = pod::spec(world.pod).containers.iter().any(|container| in_sandbox(&container.name).is_some());
    let policy = pod::restart_policy(world.pod);
    for (kind, container) in pod::init_containers(world.pod) {
        let latest = in_sandbox(&container.name);
        match (kind, latest.map(|latest| latest.state)) {
            // Main containers have begun: init containers are history, whatever became of them.
            (Kind::Init, _) if begun => {}
            (Kind::Init, Some(RunState::Exited)) => {
                let exit_code = latest.map_or(0, |latest| latest.exit_code);
                if exit_code != 0 {
                    if policy != RestartPolicy::Never {
                        start(world, container, latest, plan);
                    }
                    return false;
                }
            }
            (Kind::Init, Some(RunState::Running)) => return false,
            (Kind::Sidecar, Some(RunState::Running)) => {
                let latest = latest.filter(|latest| {
                    !kill_if_bad(world, container, latest, true, plan)
                        && !resize(world, container, latest, plan)
                });
                if !begun && !latest.is_some_and(|latest| started(world, container, latest)) {
                    return false;
                }
            }
            _ => {
                start(world, container, latest.or_else(|| world.observed.latest(&container.name)), plan);
                if !begun {
                    return false;
                }
            }
        }
    }
    true
}

/// A running container counts as started when its startup probe has succeeded.
fn started(world: World<'_>, container: &Container, running: &ObservedContainer) -> bool {
    let health = world.memory.health.get(&running.id);
    health.map_or(container.startup_probe.is_none(), |health| health.started)
}

fn advance_main(world: World<'_>, container: &Container, plan: &mut Plan) {
    let policy = pod::restart_policy(world.pod);
    let latest = world.observed.latest(&container.name);
    match latest {
        Some(latest) if latest.state == RunState::Running => {
            if !kill_if_bad(world, container, latest, policy != RestartPolicy::Never, plan) {
                resize(world, container, latest, plan);
            }
        }
        Some(latest) if latest.is_dead() && stays_dead(world, container, latest, policy) => {}
        latest => start(world, container, latest, plan),
    }
}

/// Kills a running container whose spec has changed or whose probes have given it up; true if it did.
fn kill_if_bad(
    world: World<'_>,
    container: &Container,
    running: &ObservedContainer,
    restart: bool,
    plan: &mut Plan,
) -> bool {
    let name = &container.name;
    let pod_grace = pod::grace_period(world.pod);
    let (message, grace, replaced) = if running.hash != pod::container_hash(container) {
        (format!("Container {name} definition changed, will be restarted"), pod_grace, true)
    } else {
        let unhealthy = world.memory.health.get(&running.id).and_then(|health| health.unhealthy.as_ref());
        let Some(unhealthy) = unhealthy else { return false };
        let ending = if restart { ", will be restarted" } else { "" };
        let message = format!("Container {name} failed {} probe{ending}", unhealthy.probe);
        (message, unhealthy.grace.unwrap_or(pod_grace), restart)
    };
    let (id, container) = (running.id.clone(), name.clone());
    plan.actions.push(Action::Kill { id, container, message, grace, replaced });
    true
}

/// Starts a container, unless an earlier failure or exit makes it wait.
fn start(world: World<'_>, container: &Container, latest: Option<&ObservedContainer>, plan: &mut Plan) {
    let name = &container.name;
    match latest.map(|latest| (latest, latest.state)) {
        // Left over from an attempt that died between create and start: its successor takes the same number.
        Some((latest, RunState::Created)) => {
            plan.actions.push(Action::RemoveContainer { id: latest.id.clone() });
            return;
        }
        Some((latest, RunState::Unknown | RunState::Running)) => {
            let message = format!("Container is in unknown state, try killing it before restart: {name}");
            let grace = Duration::from_secs(2);
            plan.actions.push(Action::Kill {
                id: latest.id.clone(),
                container: name.clone(),
                message,
                grace,
                replaced: false,
            });
            return;
        }
        _ => {}
    }
    if held_back(world, container, plan) || crash_looping(world, container, latest, plan) {
        return;
    }
    plan.actions.push(Action::Start {
        container: name.clone(),
        attempt: latest.map_or(0, |latest| latest.restart_count + 1),
        after_exit: latest.is_some_and(|latest| world.memory.replaced.get(&latest.id) != Some(&None)),
    });
}

/// An attempt has failed a moment ago.
fn held_back(world: World<'_>, container: &Container, plan: &mut Plan) -> bool {
    let Some(failure) = world.memory.failures.get(&container.name) else { return false };
    if failure.retry_at <= world.now {
        return false;
    }
    plan.wake(failure.retry_at);
    match &failure.then {
        Some((at, message)) if *at <= world.now => {
            plan.wait(&container.name, "ImagePullBackOff", message.clone())
        }
        then => {
            plan.wait(&container.name, &failure.reason, failure.message.clone());
            if let Some((at, _)) = then {
                plan.wake(*at);
            }
        }
    }
    true
}

/// The container keeps ending.
fn crash_looping(
    world: World<'_>,
    container: &Container,
    latest: Option<&ObservedContainer>,
    plan: &mut Plan,
) -> bool {
    let Some(backoff) = world.memory.backoff_of(container) else { return false };
    if world.memory.starting.contains(&container.name) {
        return false;
    }
    let Some((latest, finished)) = latest.and_then(|latest| Some((latest, latest.finished_at?))) else {
        return false;
    };
    // A kubelet ends and starts it in one step, in which the exit before is the last that it knows of.
    let known = world.memory.replaced.get(&latest.id);
    if known.is_some_and(|before| before.and_then(|at| backoff.blocked_until(at, finished)).is_none()) {
        return false;
    }
    let Some(until) = backoff.blocked_until(finished, world.now) else { return false };
    let message = format!(
        "back-off {} restarting failed container={} pod={}",
        go_duration(backoff.delay()),
        container.name,
        pod::described(world.pod)
    );
    plan.wait(&container.name, "CrashLoopBackOff", message);
    plan.wake(until);
    true
}

/// Whole seconds as Go prints a duration: `40s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
