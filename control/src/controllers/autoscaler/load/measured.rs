//! The load of pods, each by itself, against a target per pod.
//!
//! A pod that should report and does not counts as idle when more pods are asked for, and as busy when fewer are, so
//! that what is unknown never drives the change. One that only starts is idle for those who would add more.

use super::{Facts, Sample, Tolerance, from_milli, is_utilization, milli, whole};
use crate::controllers::pods;
use crate::quota::pods::is_shared;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{MetricTarget, MetricValueStatus};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

/// For so long after its start, the load of a pod counts only if it was ready all the while it was measured.
const STARTING: SignedDuration = SignedDuration::from_mins(5);
/// A pod whose readiness last changed so soon after its start was never ready.
const FIRST_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What a pod uses, in thousandths, and when that was measured.
pub(super) struct Usage {
    pub(super) amount: i64,
    at: Option<Timestamp>,
    window: SignedDuration,
}

impl Usage {
    /// As the metrics API lists it: of all containers, or of one.
    pub(super) fn of_resource(item: &Value, resource: &str, container: Option<&str>) -> Option<Self> {
        let containers = item["containers"].as_array()?.iter();
        let relevant = containers.filter(|one| container.is_none_or(|name| one["name"] == name));
        let amounts = relevant.map(|one| milli(one["usage"][resource].as_str()?));
        let amount = amounts.reduce(|sum, more| Some(sum? + more?)).flatten()?;
        let window = item["window"].as_str().and_then(|text| crate::server::seconds(text).ok());
        let window = window.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
        Some(Self {
            amount,
            at: item["timestamp"].as_str().and_then(|text| text.parse().ok()),
            window: window.unwrap_or_default(),
        })
    }

    /// One whose time does not matter.
    pub(super) fn plain(amount: i64) -> Self {
        Self { amount, at: None, window: SignedDuration::ZERO }
    }
}

/// Usage, and request, of a pod.
#[derive(Debug, Clone, Copy)]
struct Load {
    used: i64,
    requested: i64,
}

/// Pods by what is known of them.
pub(super) struct Groups {
    ready: Vec<Load>,
    unready: Vec<Load>,
    missing: Vec<Load>,
    tolerance: Tolerance,
}

impl Groups {
    /// Fails where nothing is known of any pod.
    pub(super) fn new(
        facts: &Facts<'_>,
        usage: impl Fn(&Sample) -> Option<Usage>,
        requested: impl Fn(&Pod) -> i64,
        by_readiness: bool,
    ) -> Result<Self, String> {
        let tolerance = facts.tolerance;
        let mut groups = Self { ready: Vec::new(), unready: Vec::new(), missing: Vec::new(), tolerance };
        for sample in facts.samples.iter().filter(|sample| pods::is_active(&sample.pod)) {
            let usage = usage(sample);
            let used = usage.as_ref().map_or(0, |usage| usage.amount);
            let load = Load { used, requested: requested(&sample.pod) };
            let group = match usage {
                _ if pods::phase(&sample.pod) == "Pending" => &mut groups.unready,
                None => &mut groups.missing,
                Some(usage) if by_readiness && is_unready(&sample.pod, &usage, facts.now) => {
                    &mut groups.unready
                }
                Some(_) => &mut groups.ready,
            };
            group.push(load);
        }
        if groups.ready.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
        }
        Ok(groups)
    }

    /// How many pods there should be.
    pub(super) fn size(&self, scale: &Scale, replicas: i32) -> i32 {
        let first = scale.ratio(&self.ready);
        let (more, fewer) = (first > 1.0, first < 1.0);
        if self.missing.is_empty() && (!more || self.unready.is_empty()) {
            return if self.tolerance.has(first) { replicas } else { whole(first * self.ready.len() as f64) };
        }
        let idle = |load: &Load| Load { used: 0, ..*load };
        let taken = |load: &Load| if more { idle(load) } else { scale.busy(load) };
        let missing = self.missing.iter().filter(|_| more || fewer).map(taken);
        let unready = self.unready.iter().filter(|_| more).map(idle);
        let all: Vec<Load> = self.ready.iter().copied().chain(missing).chain(unready).collect();
        let second = scale.ratio(&all);
        let turned = (fewer && second > 1.0) || (more && second < 1.0);
        let size = whole(second * all.len() as f64);
        let against = (second < 1.0 && size > replicas) || (second > 1.0 && size < replicas);
        if self.tolerance.has(second) || turned || against { replicas } else { size }
    }

    /// The load of those that are ready.
    pub(super) fn current(&self, scale: &Scale) -> MetricValueStatus {
        let percent = matches!(scale, Scale::Share(_)).then(|| percent(&self.ready));
        MetricValueStatus {
            average_utilization: percent.and_then(|percent| i32::try_from(percent).ok()),
            average_value: Some(from_milli(average(&self.ready))),
            value: None,
        }
    }
}

/// Whether what was measured of a pod is not yet what it will be.
fn is_unready(pod: &Pod, usage: &Usage, now: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let start = status.and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(Time(start))) = (pods::condition(pod, "Ready"), start) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |Time(at)| *at);
    let fails = ready.status == "False";
    if now.duration_since(*start) < STARTING {
        return fails || usage.at.is_some_and(|at| at.duration_since(changed) < usage.window);
    }
    fails && changed.duration_since(*start) < FIRST_READINESS
}

/// The target as an amount per pod.
pub(super) enum Scale {
    /// A share, in percent, of what pods request.
    Share(i64),
    /// Thousandths per pod.
    Amount(i64),
}

impl Scale {
    pub(super) fn of(target: &MetricTarget) -> Result<Self, String> {
        if is_utilization(target) {
            return Ok(Self::Share(i64::from(target.average_utilization.unwrap_or(80)).max(1)));
        }
        let amount = target.average_value.as_ref().or(target.value.as_ref());
        let amount = amount.and_then(|Quantity(text)| milli(text)).filter(|amount| *amount > 0);
        amount.map(Self::Amount).ok_or_else(|| "the target has no amount".to_owned())
    }

    /// What an unknown pod is taken to use when fewer are asked for: all it requests, or more if it may.
    fn busy(&self, load: &Load) -> Load {
        let used = match self {
            Self::Share(share) => load.requested.saturating_mul(*share.max(&100)) / 100,
            Self::Amount(amount) => *amount,
        };
        Load { used, ..*load }
    }

    /// Load over target; a share is counted in whole percent.
    fn ratio(&self, loads: &[Load]) -> f64 {
        match self {
            Self::Share(share) => percent(loads) as f64 / *share as f64,
            Self::Amount(amount) => average(loads) as f64 / *amount as f64,
        }
    }
}

fn percent(loads: &[Load]) -> i64 {
    let (used, requested) = (sum(loads, |load| load.used), sum(loads, |load| load.requested));
    used.saturating_mul(100) / requested.max(1)
}

fn average(loads: &[Load]) -> i64 {
    sum(loads, |load| load.used) / i64::try_from(loads.len()).unwrap_or(1).max(1)
}

fn sum(loads: &[Load], part: fn(&Load) -> i64) -> i64 {
    loads.iter().map(part).fold(0, i64::saturating_add)
}

/// What a pod requests as a whole, or its containers, those beside the others as well, or one of them.
pub(super) fn requested(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let beside = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(beside));
    let amount =
        |resources: Option<&ResourceRequirements>| milli(&resources?.requests.as_ref()?.get(resource)?.0);
    if container.is_none() && speaks_for_all(spec) {
        let sum = all.filter_map(|one| amount(one.resources.as_ref())).reduce(i64::saturating_add);
        let own = amount(spec.resources.as_ref()).filter(|_| is_shared(resource)).or(sum);
        let overhead = spec.overhead.as_ref().and_then(|overhead| milli(&overhead.get(resource)?.0));
        let all = own.map(|own| own.saturating_add(overhead.unwrap_or(0))).or(overhead);
        return all.ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    let relevant = all.filter(|one| container.is_none_or(|name| name == one.name));
    let amounts = relevant.map(|one| {
        let amount = amount(one.resources.as_ref());
        amount
            .ok_or_else(|| format!("missing request for {resource} in container {} of Pod {name}", one.name))
    });
    amounts.sum()
}

/// Whether the pod says what all its containers request together.
fn speaks_for_all(spec: &PodSpec) -> bool {
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.is_some_and(|requests| requests.keys().any(|name| is_shared(name)))
}
