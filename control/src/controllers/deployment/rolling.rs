//! The way from old sets to the new one, as data: which set gets how many replicas next.
//!
//! Rolling update never has more than `replicas + maxSurge` pods, and never takes away an available pod when that
//! would leave fewer than `replicas - maxUnavailable` of them. Recreate waits until the last old pod is gone.

use super::{World, revision};
use crate::controllers::ownership;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::sync::Arc;

/// A new size for one set.
pub(super) struct Step {
    pub(super) set: Arc<ReplicaSet>,
    pub(super) replicas: i32,
}

/// `maxSurge` and `maxUnavailable` in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Limits {
    /// Percentages are of `replicas`: surge rounds up, unavailable rounds down; both zero would never move.
    pub(super) fn of(world: &World) -> Self {
        if is_recreate(world) {
            return Self { surge: 0, unavailable: 0 };
        }
        let spec = world.deployment.spec.as_ref();
        let rolling = spec.and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
        let replicas = world.replicas();
        let surge = pods(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, true);
        let unavailable = pods(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, false);
        Self {
            surge,
            unavailable: if surge == 0 { unavailable.max(1) } else { unavailable }.min(replicas.max(1)),
        }
    }
}

/// A count, or a percentage of `replicas`; 25 % where absent.
fn pods(value: Option<&IntOrString>, replicas: i32, round_up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(count)) => return *count,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        None => 25,
    };
    let hundredths = i64::from(replicas) * percent;
    let pods = if round_up { (hundredths + 99) / 100 } else { hundredths / 100 };
    i32::try_from(pods).unwrap_or(i32::MAX)
}

/// Replicas a set asks for.
pub(super) fn replicas_of(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn is_recreate(world: &World) -> bool {
    let strategy = world.deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    strategy == Some("Recreate")
}

fn total<'a>(sets: impl Iterator<Item = &'a Arc<ReplicaSet>>) -> i32 {
    sets.map(|set| replicas_of(set)).sum()
}

/// The size a set of the present template starts with, or grows to now.
pub(super) fn size_of_new_set(world: &World) -> i32 {
    let wanted = world.replicas();
    let current = world.new_set.as_ref().map_or(0, |set| replicas_of(set));
    let old = total(world.old_sets.iter());
    if is_recreate(world) {
        return if old == 0 { wanted } else { current };
    }
    let room = wanted + Limits::of(world).surge - old - current;
    if room <= 0 { current } else { (current + room).min(wanted) }
}

/// The user changed only the number of replicas since the sets were scaled last.
pub(super) fn is_scaling(world: &World) -> bool {
    let wanted = world.replicas();
    world
        .all_sets()
        .filter(|set| replicas_of(set) > 0)
        .any(|set| revision::desired_when_scaled(set).is_some_and(|desired| desired != wanted))
}

/// The next steps of a rollout.
pub(super) fn steps(world: &World, pods: &[Arc<Pod>]) -> Vec<Step> {
    let Some(new_set) = &world.new_set else { return Vec::new() };
    if is_recreate(world) {
        return recreate(world, new_set, pods);
    }
    let wanted = world.replicas();
    let current = replicas_of(new_set);
    if current > wanted {
        return vec![Step { set: new_set.clone(), replicas: wanted }];
    }
    let grown = size_of_new_set(world);
    if grown != current {
        return vec![Step { set: new_set.clone(), replicas: grown }];
    }
    shrink_old(world, new_set)
}

/// All old pods go first; the new set grows when the last of them is really gone.
fn recreate(world: &World, new_set: &Arc<ReplicaSet>, pods: &[Arc<Pod>]) -> Vec<Step> {
    let old: Vec<Step> = world
        .old_sets
        .iter()
        .filter(|set| replicas_of(set) > 0)
        .map(|set| Step { set: set.clone(), replicas: 0 })
        .collect();
    if !old.is_empty() {
        return old;
    }
    let old_uids: Vec<String> = world.old_sets.iter().filter_map(|set| set.uid()).collect();
    let lives = |pod: &Arc<Pod>| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let owner = ownership::controller_of(&pod.metadata);
        !matches!(phase, Some("Succeeded" | "Failed"))
            && owner.is_some_and(|owner| old_uids.contains(&owner.uid))
    };
    if pods.iter().any(lives) || replicas_of(new_set) == world.replicas() {
        return Vec::new();
    }
    vec![Step { set: new_set.clone(), replicas: world.replicas() }]
}

/// Takes pods from old sets: first those that are not available anyway, then as many as may be missing.
fn shrink_old(world: &World, new_set: &Arc<ReplicaSet>) -> Vec<Step> {
    let must_stay = world.replicas() - Limits::of(world).unavailable;
    let new_unavailable = replicas_of(new_set) - available(new_set);
    let mut budget = total(world.all_sets()) - must_stay - new_unavailable;
    let mut available_budget = world.all_sets().map(|set| available(set)).sum::<i32>() - must_stay;
    let mut steps = Vec::new();
    for set in &world.old_sets {
        let size = replicas_of(set);
        let broken = (size - available(set)).clamp(0, budget.max(0));
        let healthy = (size - broken).min(available_budget.max(0)).min((budget - broken).max(0));
        budget -= broken + healthy;
        available_budget -= healthy;
        if broken + healthy > 0 {
            steps.push(Step { set: set.clone(), replicas: size - broken - healthy });
        }
    }
    steps
}

/// Spreads a change of size over the sets by their share, the larger ones first; what is left by rounding goes to
/// the largest.
pub(super) fn proportional(world: &World) -> Vec<Step> {
    let wanted = world.replicas();
    let mut active: Vec<&Arc<ReplicaSet>> = world.all_sets().filter(|set| replicas_of(set) > 0).collect();
    if active.len() <= 1 {
        let latest = active.first().copied().or(world.new_set.as_ref());
        return latest.map(|set| Step { set: set.clone(), replicas: wanted }).into_iter().collect();
    }
    let allowed = if wanted > 0 { wanted + Limits::of(world).surge } else { 0 };
    let mut left = allowed - total(active.iter().copied());
    active.sort_by_key(|set| (-replicas_of(set), set.name_any()));
    let mut sizes: Vec<i32> = Vec::new();
    for set in &active {
        let share = share(set, allowed, wanted, left);
        left -= share;
        sizes.push(replicas_of(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    active.into_iter().zip(sizes).map(|(set, replicas)| Step { set: set.clone(), replicas }).collect()
}

/// A set's part of the change, never more than what is left and never against its direction.
fn share(set: &ReplicaSet, allowed: i32, wanted: i32, left: i32) -> i32 {
    let size = replicas_of(set);
    if wanted == 0 {
        return -size;
    }
    let before = f64::from(revision::most_when_scaled(set).filter(|most| *most > 0).unwrap_or(allowed));
    let ideal = (f64::from(size) * f64::from(allowed) / before).round() as i32 - size;
    if left >= 0 { ideal.clamp(0, left) } else { ideal.clamp(left, 0) }
}

#[cfg(test)]
mod tests;
