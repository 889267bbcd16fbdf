//! From the load of pods to their number: usage against the target, pod by pod.
//!
//! A pod that should report and does not counts as idle when more pods are asked for, and as busy when fewer are, so
//! that what is unknown never drives the change.

use crate::controllers::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HorizontalPodAutoscalerSpec, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_api::quantity;
use serde_json::Value;

/// Deviations below this share of the target change nothing.
const TOLERANCE: f64 = 0.1;
/// A pod that is not ready so soon after its start is still starting.
const STARTING: SignedDuration = SignedDuration::from_mins(5);

/// A pod of the target.
pub(super) struct Sample {
    pub(super) pod: Pod,
    /// Containers with their usage, as the metrics API lists them.
    pub(super) usage: Option<Value>,
    /// Whether there is a metrics API at all.
    pub(super) served: bool,
}

/// What all metrics together ask for.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The size, and the metric that asks for it.
    pub(super) wanted: Option<(i32, String)>,
    pub(super) metrics: Vec<MetricStatus>,
    /// Reason and message of each metric that cannot be had.
    pub(super) failures: Vec<(&'static str, String)>,
}

/// The usage of a pod and what it requests, in thousandths.
struct Measured {
    used: Option<i64>,
    requested: Option<i64>,
    starting: bool,
}

/// The largest size that any metric asks for; while one cannot be had, none that is smaller than now.
pub(super) fn judge(
    spec: &HorizontalPodAutoscalerSpec,
    replicas: i32,
    samples: &[Sample],
    now: Timestamp,
) -> Verdict {
    let mut verdict = Verdict::default();
    for metric in spec.metrics.iter().flatten() {
        match one(metric, replicas, samples, now) {
            Ok((size, name, status)) => {
                verdict.metrics.push(status);
                if verdict.wanted.as_ref().is_none_or(|(wanted, _)| size > *wanted) {
                    verdict.wanted = Some((size, name));
                }
            }
            Err(failure) => verdict.failures.push(failure),
        }
    }
    if !verdict.failures.is_empty() && verdict.wanted.as_ref().is_some_and(|(wanted, _)| *wanted <= replicas)
    {
        verdict.wanted = None;
    }
    verdict
}

type Failure = (&'static str, String);

fn one(
    metric: &MetricSpec,
    replicas: i32,
    samples: &[Sample],
    now: Timestamp,
) -> Result<(i32, String, MetricStatus), Failure> {
    let (resource, container, target) = match (&metric.resource, &metric.container_resource) {
        (Some(resource), _) => (resource.name.as_str(), None, &resource.target),
        (_, Some(resource)) => (resource.name.as_str(), Some(resource.container.as_str()), &resource.target),
        _ => return Err(unsupported(&metric.type_)),
    };
    let reason =
        if container.is_some() { "FailedGetContainerResourceMetric" } else { "FailedGetResourceMetric" };
    let fail = |message: String| (reason, format!("failed to get {resource} {}: {message}", words(target)));
    if samples.iter().any(|sample| !sample.served) {
        let why =
            "no metrics returned from resource metrics API: the server could not find the requested resource";
        return Err(fail(format!("unable to get metrics for resource {resource}: {why}")));
    }
    let measured: Vec<Measured> = samples
        .iter()
        .filter(|sample| pods::is_active(&sample.pod))
        .map(|sample| measure(sample, resource, container, now))
        .collect();
    if !measured.iter().any(|pod| pod.used.is_some()) {
        let why = "no metrics returned from resource metrics API";
        return Err(fail(format!("unable to get metrics for resource {resource}: {why}")));
    }
    let scale = Scale::of(target, &measured, resource).map_err(fail)?;
    let size = scale.size(&measured, replicas);
    let name = match container {
        Some(container) => format!("{resource} container resource {} of container {container}", unit(target)),
        None => format!("{resource} resource {}", unit(target)),
    };
    Ok((size, name, status(metric, &scale, &measured)))
}

fn unsupported(kind: &str) -> Failure {
    let (reason, which) = match kind {
        "Pods" => ("FailedGetPodsMetric", "pods"),
        "Object" => ("FailedGetObjectMetric", "object"),
        "External" => ("FailedGetExternalMetric", "external"),
        _ => return ("InvalidMetricSourceType", format!("unknown metric source type {kind:?}")),
    };
    (reason, format!("unable to get {which} metric: no custom or external metrics API is served"))
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

fn measure(sample: &Sample, resource: &str, container: Option<&str>, now: Timestamp) -> Measured {
    let named = |name: &str| container.is_none_or(|container| container == name);
    let reported = sample.usage.as_ref().and_then(Value::as_array);
    let used = reported.and_then(|containers| {
        let of = |one: &Value| milli(one["usage"][resource].as_str()?);
        let relevant = containers.iter().filter(|one| one["name"].as_str().is_some_and(named));
        relevant.map(of).reduce(|sum, more| Some(sum? + more?)).flatten()
    });
    let containers = sample.pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let requested = containers.iter().filter(|one| named(&one.name)).map(|one| {
        let requests = one.resources.as_ref()?.requests.as_ref()?;
        requests.get(resource).and_then(|Quantity(text)| milli(text))
    });
    let requested = requested.reduce(|sum, more| Some(sum? + more?)).flatten();
    let started = sample.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let young = started.is_none_or(|Time(at)| now.duration_since(*at) < STARTING);
    let starting = resource == "cpu" && young && pods::ready_since(&sample.pod).is_none();
    Measured { used, requested, starting }
}

fn milli(text: &str) -> Option<i64> {
    text.parse::<quantity::Quantity>().ok().map(|quantity| quantity.milli())
}

/// The target as an amount per pod.
enum Scale {
    /// A share, in percent, of what pods request.
    Share(i64),
    /// Thousandths per pod.
    Amount(i64),
}

impl Scale {
    fn of(target: &MetricTarget, measured: &[Measured], resource: &str) -> Result<Self, String> {
        if is_utilization(target) {
            if measured.iter().any(|pod| pod.requested.is_none_or(|requested| requested <= 0)) {
                return Err(format!("missing request for {resource}"));
            }
            return Ok(Self::Share(i64::from(target.average_utilization.unwrap_or(80)).max(1)));
        }
        let amount = target.average_value.as_ref().or(target.value.as_ref());
        let amount = amount.and_then(|Quantity(text)| milli(text)).filter(|amount| *amount > 0);
        amount.map(Self::Amount).ok_or_else(|| "the target has no amount".to_owned())
    }

    /// What a pod may use, in thousandths.
    fn allowance(&self, pod: &Measured) -> i64 {
        match self {
            Self::Share(percent) => pod.requested.unwrap_or(0).saturating_mul(*percent) / 100,
            Self::Amount(amount) => *amount,
        }
    }

    /// What an unknown pod is taken to use when fewer are asked for: all it requests, or its whole allowance.
    fn busy(&self, pod: &Measured) -> i64 {
        match self {
            Self::Share(_) => pod.requested.unwrap_or(0),
            Self::Amount(amount) => *amount,
        }
    }

    /// Usage over allowance of some pods.
    fn ratio(&self, pods: &[(&Measured, i64)]) -> f64 {
        let used: i64 = pods.iter().map(|(_, used)| used).sum();
        let allowed: i64 = pods.iter().map(|(pod, _)| self.allowance(pod)).sum();
        if allowed <= 0 { 1.0 } else { used as f64 / allowed as f64 }
    }

    fn size(&self, measured: &[Measured], replicas: i32) -> i32 {
        let known: Vec<(&Measured, i64)> =
            measured.iter().filter(|pod| !pod.starting).filter_map(|pod| Some((pod, pod.used?))).collect();
        if known.is_empty() {
            return replicas;
        }
        let first = self.ratio(&known);
        if known.len() == measured.len() {
            return if (first - 1.0).abs() <= TOLERANCE {
                replicas
            } else {
                whole(first * known.len() as f64)
            };
        }
        let rest = measured.iter().filter(|pod| pod.starting || pod.used.is_none());
        let rest = rest.filter_map(|pod| match (pod.starting, first > 1.0) {
            (_, true) => Some((pod, 0)),
            (true, false) => None,
            (false, false) => Some((pod, self.busy(pod))),
        });
        let all: Vec<(&Measured, i64)> = known.iter().copied().chain(rest).collect();
        let second = self.ratio(&all);
        let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
        let size = whole(second * all.len() as f64);
        let against = (second < 1.0 && size > replicas) || (second > 1.0 && size < replicas);
        if (second - 1.0).abs() <= TOLERANCE || turned || against { replicas } else { size }
    }
}

/// Rounded up, but for what is only an error of arithmetic.
fn whole(size: f64) -> i32 {
    (size - 1e-9).ceil().clamp(0.0, f64::from(i32::MAX)) as i32
}

fn status(metric: &MetricSpec, scale: &Scale, measured: &[Measured]) -> MetricStatus {
    let known: Vec<&Measured> = measured.iter().filter(|pod| pod.used.is_some()).collect();
    let used: i64 = known.iter().filter_map(|pod| pod.used).sum();
    let requested: i64 = known.iter().filter_map(|pod| pod.requested).sum();
    let average = used / i64::try_from(known.len()).unwrap_or(1).max(1);
    let percent = matches!(scale, Scale::Share(_)).then(|| used * 100 / requested.max(1));
    let current = MetricValueStatus {
        average_utilization: percent.and_then(|percent| i32::try_from(percent).ok()),
        average_value: Some(Quantity(quantity::Quantity::from_milli(average).to_string())),
        value: None,
    };
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
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(used: Option<&str>, ready: bool) -> Sample {
        let pod = json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]},
            "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        let usage = used.map(|cpu| json!([{"name": "c", "usage": {"cpu": cpu, "memory": "50Mi"}}]));
        Sample { pod: serde_json::from_value(pod).unwrap(), usage, served: true }
    }

    fn spec(metric: Value) -> HorizontalPodAutoscalerSpec {
        serde_json::from_value(
            json!({"maxReplicas": 10, "scaleTargetRef": {"kind": "D", "name": "d"}, "metrics": [metric]}),
        )
        .unwrap()
    }

    #[test]
    fn sizes_by_utilization() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let half = spec(
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}),
        );
        for (samples, replicas, expected) in [
            (vec![sample(Some("100m"), true)], 1, Some(2)),
            (vec![sample(Some("52m"), true)], 1, Some(1)),
            (vec![sample(Some("10m"), true), sample(Some("10m"), true)], 2, Some(1)),
            // One that does not report would be busy if fewer are asked for, idle if more are.
            (vec![sample(Some("10m"), true), sample(None, true)], 2, Some(2)),
            (vec![sample(Some("100m"), true), sample(None, true)], 2, Some(2)),
            // One that is starting does not count for more.
            (vec![sample(Some("200m"), true), sample(Some("500m"), false)], 2, Some(4)),
            (vec![sample(None, true)], 1, None),
        ] {
            let verdict = judge(&half, replicas, &samples, now);
            assert_eq!(verdict.wanted.map(|(size, _)| size), expected);
        }
        let status = judge(&half, 1, &[sample(Some("25m"), true)], now).metrics;
        let current = &status[0].resource.as_ref().unwrap().current;
        assert_eq!(
            (current.average_utilization, current.average_value.clone()),
            (Some(25), Some(Quantity("25m".into())))
        );
    }

    #[test]
    fn sizes_by_amount_and_what_cannot_be_had() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let amount = spec(
            json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "20Mi"}}}),
        );
        let verdict = judge(&amount, 1, &[sample(Some("1m"), true)], now);
        assert_eq!(verdict.wanted, Some((3, "memory resource usage".to_owned())));
        let absent = Sample { served: false, usage: None, ..sample(None, true) };
        let verdict = judge(&amount, 1, &[absent], now);
        assert_eq!(verdict.failures[0].0, "FailedGetResourceMetric");
        let foreign = spec(
            json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
        );
        assert_eq!(judge(&foreign, 1, &[], now).failures[0].0, "FailedGetPodsMetric");
    }
}
