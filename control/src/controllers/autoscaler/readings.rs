//! Metrics that are read from other servers: those of the custom metrics API, of pods and of objects, and those of the
//! external metrics API, which are about nothing in the cluster.

use super::said;
use crate::server::percent_encode;
use k8s_openapi::api::autoscaling::v2::{
    ExternalMetricSource, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, ObjectMetricSource,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use knarr_api::quantity::Quantity;
use kube::Client;
use kube::core::{GroupVersionKind, Selector};
use serde_json::Value;
use std::collections::HashMap;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";

/// What was read for one metric.
pub(super) enum Reading {
    /// Nothing: the pods' own usage tells.
    Own,
    Foreign(Result<Found, String>),
}

/// In thousandths.
pub(super) enum Found {
    /// By the names of pods.
    Pods(HashMap<String, i64>),
    Sum(i64),
}

/// Where a target's metrics are read.
pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    /// Of its pods.
    pub(super) selector: &'a str,
}

impl Reader<'_> {
    /// One reading for each metric.
    pub(super) async fn all(&self, spec: &HorizontalPodAutoscalerSpec) -> Vec<Reading> {
        let mut readings = Vec::new();
        for metric in spec.metrics.iter().flatten() {
            readings.push(match metric {
                MetricSpec { pods: Some(source), .. } => Reading::Foreign(self.pods(&source.metric).await),
                MetricSpec { object: Some(source), .. } => Reading::Foreign(self.object(source).await),
                MetricSpec { external: Some(source), .. } => Reading::Foreign(self.external(source).await),
                _ => Reading::Own,
            });
        }
        readings
    }

    async fn pods(&self, metric: &MetricIdentifier) -> Result<Found, String> {
        let path = format!("namespaces/{}/pods/*/{}", self.namespace, percent_encode(&metric.name));
        let query = format!("labelSelector={}&{}", percent_encode(self.selector), of_metric(metric)?);
        let items = self.custom(&path, &query).await?;
        let entry =
            |item: &Value| Some((item["describedObject"]["name"].as_str()?.to_owned(), amount(item)?));
        Ok(Found::Pods(items.iter().filter_map(entry).collect()))
    }

    async fn object(&self, source: &ObjectMetricSource) -> Result<Found, String> {
        let (object, metric) = (&source.described_object, percent_encode(&source.metric.name));
        let version = object.api_version.as_deref().unwrap_or_default();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let path = if group.is_empty() && object.kind == "Namespace" {
            format!("namespaces/{}/metrics/{metric}", self.namespace)
        } else {
            let kind = GroupVersionKind::gvk(group, version, &object.kind);
            let found = kube::discovery::pinned_kind(self.client, &kind).await;
            let (resource, _) = found.map_err(|_| {
                let kind = format!("no matches for kind {:?} in group {group:?}", object.kind);
                format!("unable to fetch metrics from custom metrics API: {kind}")
            })?;
            let dot = if group.is_empty() { "" } else { "." };
            format!("namespaces/{}/{}{dot}{group}/{}/{metric}", self.namespace, resource.plural, object.name)
        };
        let items = self.custom(&path, &of_metric(&source.metric)?).await?;
        Ok(Found::Sum(items.first().and_then(amount).unwrap_or(0)))
    }

    async fn external(&self, source: &ExternalMetricSource) -> Result<Found, String> {
        let name = &source.metric.name;
        let selector = percent_encode(&query_of(source.metric.selector.as_ref())?);
        let path = format!(
            "/apis/{EXTERNAL}/v1beta1/namespaces/{}/{}?labelSelector={selector}",
            self.namespace,
            percent_encode(name)
        );
        let unable = |error: kube::Error| {
            let why = said(&error, &format!("{name}.{EXTERNAL}"));
            format!("unable to fetch metrics from external metrics API: {why}")
        };
        let items = self.items(path).await.map_err(unable)?;
        if items.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        Ok(Found::Sum(items.iter().filter_map(amount).fold(0, i64::saturating_add)))
    }

    async fn custom(&self, path: &str, query: &str) -> Result<Vec<Value>, String> {
        let unable = |why: String| format!("unable to fetch metrics from custom metrics API: {why}");
        let version = self.version().await.map_err(unable)?;
        let items = self.items(format!("/apis/{CUSTOM}/{version}/{path}?{query}")).await;
        let items = items.map_err(|error| unable(said(&error, CUSTOM)))?;
        if items.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        Ok(items)
    }

    /// The version that the server of custom metrics prefers.
    async fn version(&self) -> Result<String, String> {
        let groups = self.client.list_api_groups().await.map_err(|error| said(&error, CUSTOM))?;
        let group = groups.groups.into_iter().find(|group| group.name == CUSTOM);
        let preferred = group.and_then(|group| group.preferred_version.or(group.versions.into_iter().next()));
        let none = || format!("no custom metrics API ({CUSTOM}) registered");
        preferred.map(|version| version.version).ok_or_else(none)
    }

    async fn items(&self, path: String) -> Result<Vec<Value>, kube::Error> {
        let mut list: Value = self.client.request(super::get(path)?).await?;
        Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        })
    }
}

fn amount(item: &Value) -> Option<i64> {
    item["value"].as_str()?.parse::<Quantity>().ok().map(|quantity| quantity.milli())
}

fn of_metric(metric: &MetricIdentifier) -> Result<String, String> {
    Ok(format!("metricLabelSelector={}", percent_encode(&query_of(metric.selector.as_ref())?)))
}

/// The selector as queries have it.
fn query_of(selector: Option<&LabelSelector>) -> Result<String, String> {
    let Some(selector) = selector else { return Ok(String::new()) };
    let selector: Selector = selector.clone().try_into().map_err(|error| format!("{error}"))?;
    Ok(selector.to_string())
}
