//! By metrics that other servers than the metrics API have: of each pod, of one object, of something outside.

use super::measured::{Groups, Scale, Usage};
use super::{Facts, Failure, Proposal, from_milli, milli, whole};
use crate::controllers::autoscaler::readings::Found;
use crate::controllers::{pods, selector_words};
use k8s_openapi::api::autoscaling::v2::{
    ExternalMetricSource, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricSource, PodsMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a metric asks for, of which this was found.
pub(super) fn propose(
    metric: &MetricSpec,
    found: &Result<Found, String>,
    facts: &Facts<'_>,
) -> Result<Proposal, Failure> {
    let (size, name, status) = match metric {
        MetricSpec { pods: Some(source), .. } => of_pods(source, found, facts)?,
        MetricSpec { object: Some(source), .. } => of_object(source, found, facts)?,
        MetricSpec { external: Some(source), .. } => of_external(source, found, facts)?,
        _ => return Err(Failure::unknown(metric)),
    };
    Ok((size, name, MetricStatus { type_: metric.type_.clone(), ..status }))
}

fn of_pods(
    source: &PodsMetricSource,
    found: &Result<Found, String>,
    facts: &Facts<'_>,
) -> Result<Proposal, Failure> {
    let name = &source.metric.name;
    let fail = |why: String| Failure::new("FailedGetPodsMetric", why);
    let values = match found {
        Ok(Found::Pods(values)) => values,
        Ok(Found::Sum(_)) => return Err(fail(format!("unable to get metric {name}: not of pods"))),
        Err(why) => return Err(fail(format!("unable to get metric {name}: {why}"))),
    };
    let usage = |pod: &super::Sample| {
        values.get(pod.pod.metadata.name.as_deref()?).map(|amount| Usage::plain(*amount))
    };
    let scale = Scale::of(&source.target).map_err(fail)?;
    let groups = Groups::new(facts, usage, |_| 0, false).map_err(fail)?;
    let status = PodsMetricStatus { metric: source.metric.clone(), current: groups.current(&scale) };
    let size = groups.size(&scale, facts.replicas);
    Ok((size, format!("pods metric {name}"), MetricStatus { pods: Some(status), ..MetricStatus::default() }))
}

fn of_object(
    source: &ObjectMetricSource,
    found: &Result<Found, String>,
    facts: &Facts<'_>,
) -> Result<Proposal, Failure> {
    let (metric, object) = (&source.metric.name, &source.described_object);
    let whole = format!("failed to get {metric} object metric: ");
    let fail = |why: String, prefix: &str| Failure::within("FailedGetObjectMetric", why, prefix);
    let prefix = if source.target.value.is_some() { "" } else { whole.as_str() };
    let value = total(found).map_err(|why| {
        // In this order, as Kubernetes says it.
        let place = format!("{} on {} {}/{why}", object.kind, facts.namespace, object.name);
        fail(format!("unable to get metric {metric}: {place}"), prefix)
    })?;
    let (size, current) =
        against(&source.target, value, facts).map_err(|why| fail(why, ""))?.ok_or_else(|| {
            let why =
                "invalid object metric source: neither a value target nor an average value target was set";
            fail(why.to_owned(), "")
        })?;
    let name = match source.target.value {
        Some(_) => format!("{} metric {metric}", object.kind),
        None => named(&source.metric),
    };
    let described_object = object.clone();
    let status = ObjectMetricStatus { described_object, metric: source.metric.clone(), current };
    Ok((size, name, MetricStatus { object: Some(status), ..MetricStatus::default() }))
}

fn of_external(
    source: &ExternalMetricSource,
    found: &Result<Found, String>,
    facts: &Facts<'_>,
) -> Result<Proposal, Failure> {
    let metric = &source.metric.name;
    let fail = |why: String, prefix: &str| Failure::within("FailedGetExternalMetric", why, prefix);
    let prefix = match source.target.average_value {
        Some(_) => format!("failed to get {metric} external metric: "),
        None => format!("failed to get external metric {metric}: "),
    };
    let value = total(found).map_err(|why| {
        let selector = selector_words::words(source.metric.selector.as_ref());
        fail(format!("unable to get external metric {}/{metric}/{selector}: {why}", facts.namespace), &prefix)
    })?;
    let (size, current) =
        against(&source.target, value, facts).map_err(|why| fail(why, &prefix))?.ok_or_else(|| {
            let why =
                "invalid external metric source: neither a value target nor an average value target was set";
            fail(why.to_owned(), "")
        })?;
    let status = ExternalMetricStatus { metric: source.metric.clone(), current };
    Ok((size, named(&source.metric), MetricStatus { external: Some(status), ..MetricStatus::default() }))
}

fn named(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, selector_words::words(metric.selector.as_ref()))
}

fn total(found: &Result<Found, String>) -> Result<i64, &str> {
    match found {
        Ok(Found::Sum(value)) => Ok(*value),
        Ok(Found::Pods(values)) => Ok(values.values().fold(0, |sum, value| sum.saturating_add(*value))),
        Err(why) => Err(why),
    }
}

/// The size for a value that is shared by all pods, or that is to be kept as it is; `None` without a target.
fn against(
    target: &MetricTarget,
    value: i64,
    facts: &Facts<'_>,
) -> Result<Option<(i32, MetricValueStatus)>, String> {
    let amount = |quantity: &Option<Quantity>| {
        quantity.as_ref().and_then(|Quantity(text)| milli(text)).filter(|amount| *amount > 0)
    };
    if let Some(each) = amount(&target.average_value) {
        let current = value as f64 / f64::from(facts.stated.max(1));
        let ratio = current / each as f64;
        let size = if facts.tolerance.has(ratio) { facts.stated } else { whole(value as f64 / each as f64) };
        let average_value = Some(from_milli(current.ceil() as i64));
        return Ok(Some((size, MetricValueStatus { average_value, ..MetricValueStatus::default() })));
    }
    let Some(kept) = amount(&target.value) else { return Ok(None) };
    let ratio = value as f64 / kept as f64;
    let current = MetricValueStatus { value: Some(from_milli(value)), ..MetricValueStatus::default() };
    if facts.tolerance.has(ratio) {
        return Ok(Some((facts.replicas, current)));
    }
    if facts.samples.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let ready = facts.samples.iter().map(|sample| &sample.pod);
    let ready = ready.filter(|pod| pods::phase(pod) == "Running" && pods::ready_since(pod).is_some()).count();
    Ok(Some((whole(ratio * ready as f64), current)))
}
