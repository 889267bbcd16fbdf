//! From the load of pods to their number: what each metric asks for, and the largest of it.

mod foreign;
mod measured;

use super::readings::Reading;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HPAScalingRules, HorizontalPodAutoscalerSpec, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::quantity;
use measured::{Groups, Scale, Usage};
use serde_json::Value;

/// Deviations below this share of the target change nothing, where an autoscaler says nothing else.
const TOLERANCE: f64 = 0.1;

/// Which deviations from the target change nothing, as shares of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    below: f64,
    above: f64,
}

impl Tolerance {
    /// As an autoscaler's behavior says, in each direction by itself.
    pub(super) fn of(spec: &HorizontalPodAutoscalerSpec) -> Self {
        let own = |rules: Option<&HPAScalingRules>| {
            let Quantity(text) = rules?.tolerance.as_ref()?;
            text.parse::<quantity::Quantity>().ok().map(|share| share.approximate())
        };
        let behavior = spec.behavior.as_ref();
        Self {
            below: own(behavior.and_then(|rules| rules.scale_down.as_ref())).unwrap_or(TOLERANCE),
            above: own(behavior.and_then(|rules| rules.scale_up.as_ref())).unwrap_or(TOLERANCE),
        }
    }

    /// Whether load over target is so near to one that nothing need be done.
    fn has(self, ratio: f64) -> bool {
        (1.0 - self.below..=1.0 + self.above).contains(&ratio)
    }
}

/// A pod of the target.
pub(super) struct Sample {
    pub(super) pod: Pod,
    /// What the metrics API tells of it.
    pub(super) usage: Option<Value>,
}

/// What is known of a target.
pub(super) struct Facts<'a> {
    pub(super) namespace: &'a str,
    /// Pods asked for.
    pub(super) replicas: i32,
    /// Pods that there are, as the target tells.
    pub(super) stated: i32,
    /// Its pods.
    pub(super) samples: &'a [Sample],
    /// Why their usage is not known.
    pub(super) silent: Option<&'a str>,
    pub(super) now: Timestamp,
    pub(super) tolerance: Tolerance,
}

/// What all metrics together ask for.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The size, and the metric that asks for it.
    pub(super) wanted: Option<(i32, String)>,
    /// One for each metric, in their order.
    pub(super) metrics: Vec<MetricStatus>,
    /// Of each metric that cannot be had.
    pub(super) failures: Vec<Failure>,
}

/// What one metric asks for, its name, and how it stands.
type Proposal = (i32, String, MetricStatus);

/// Why a metric cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// What Kubernetes says before it when it tells of all metrics together.
    pub(super) prefix: String,
}

impl Failure {
    fn new(reason: &'static str, message: String) -> Self {
        Self::within(reason, message, "")
    }

    fn within(reason: &'static str, message: String, prefix: &str) -> Self {
        Self { reason, message, prefix: prefix.to_owned() }
    }

    fn unknown(metric: &MetricSpec) -> Self {
        Self::new("InvalidMetricSourceType", format!("unknown metric source type {:?}", metric.type_))
    }
}

/// The largest size that any metric asks for; while one cannot be had, none that is smaller than now. `readings` are
/// those of the metrics in their order.
pub(super) fn judge(spec: &HorizontalPodAutoscalerSpec, readings: &[Reading], facts: &Facts<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (metric, reading) in spec.metrics.iter().flatten().zip(readings) {
        let proposal = match reading {
            Reading::Own => own(metric, facts),
            Reading::Foreign(found) => foreign::propose(metric, found, facts),
        };
        match proposal {
            Ok((size, name, status)) => {
                verdict.metrics.push(status);
                if verdict.wanted.as_ref().is_none_or(|(wanted, _)| size > *wanted) {
                    verdict.wanted = Some((size, name));
                }
            }
            Err(failure) => {
                verdict.metrics.push(MetricStatus::default());
                verdict.failures.push(failure);
            }
        }
    }
    let shrinks = verdict.wanted.as_ref().is_some_and(|(wanted, _)| *wanted < facts.replicas);
    if shrinks && !verdict.failures.is_empty() {
        verdict.wanted = None;
    }
    verdict
}

/// By a resource that the pods use.
fn own(metric: &MetricSpec, facts: &Facts<'_>) -> Result<Proposal, Failure> {
    let (resource, container, target) = match (&metric.resource, &metric.container_resource) {
        (Some(resource), _) => (resource.name.as_str(), None, &resource.target),
        (_, Some(resource)) => (resource.name.as_str(), Some(resource.container.as_str()), &resource.target),
        _ => return Err(Failure::unknown(metric)),
    };
    let reason =
        if container.is_some() { "FailedGetContainerResourceMetric" } else { "FailedGetResourceMetric" };
    let fail = |message: String| {
        Failure::new(reason, format!("failed to get {resource} {}: {message}", words(target)))
    };
    let silent = |why: &str| fail(format!("unable to get metrics for resource {resource}: {why}"));
    if let Some(why) = facts.silent {
        return Err(silent(why));
    }
    if facts.samples.iter().all(|sample| sample.usage.is_none()) {
        return Err(silent("no metrics returned from resource metrics API"));
    }
    let usage = |sample: &Sample| Usage::of_resource(sample.usage.as_ref()?, resource, container);
    let scale = Scale::of(target).map_err(fail)?;
    let requested = |pod: &Pod| measured::requested(pod, resource, container);
    let groups =
        Groups::new(facts, usage, |pod| requested(pod).unwrap_or(0), resource == "cpu").map_err(fail)?;
    if is_utilization(target) {
        facts.samples.iter().try_for_each(|sample| requested(&sample.pod).map(drop)).map_err(fail)?;
    }
    let name = match container {
        Some(container) => format!("{resource} container resource {} of container {container}", unit(target)),
        None => format!("{resource} resource {}", unit(target)),
    };
    Ok((groups.size(&scale, facts.replicas), name, status(metric, groups.current(&scale))))
}

fn is_utilization(target: &MetricTarget) -> bool {
    target.type_ == "Utilization"
}

fn words(target: &MetricTarget) -> &'static str {
    if is_utilization(target) { "utilization" } else { "usage" }
}

fn unit(target: &MetricTarget) -> &'static str {
    if is_utilization(target) { "utilization (percentage of request)" } else { "usage" }
}

fn milli(text: &str) -> Option<i64> {
    text.parse::<quantity::Quantity>().ok().map(|quantity| quantity.milli())
}

fn from_milli(amount: i64) -> Quantity {
    Quantity(quantity::Quantity::from_milli(amount).to_string())
}

/// Rounded up, but for what is only an error of arithmetic.
fn whole(size: f64) -> i32 {
    (size - 1e-9).ceil().clamp(0.0, f64::from(i32::MAX)) as i32
}

fn status(metric: &MetricSpec, current: MetricValueStatus) -> MetricStatus {
    MetricStatus {
        type_: metric.type_.clone(),
        resource: metric
            .resource
            .as_ref()
            .map(|source| ResourceMetricStatus { name: source.name.clone(), current: current.clone() }),
        container_resource: metric.container_resource.as_ref().map(|source| ContainerResourceMetricStatus {
            container: source.container.clone(),
            name: source.name.clone(),
            current,
        }),
        ..MetricStatus::default()
    }
}

#[cfg(test)]
mod tests;
