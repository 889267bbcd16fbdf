//! HorizontalPodAutoscaler: as many pods as keep the load of each near the target.
//!
//! Every fifteen seconds the usage of the pods is read from the metrics API and compared with what they request, and
//! other metrics are read from who serves them. Whatever the load is, the size is brought within its bounds. Recent
//! recommendations and changes are remembered here, so that a short dip takes nothing away and a burst does not run
//! ahead of the policies; they are lost with the process, which only makes it more careful.

mod ambiguity;
mod behavior;
mod load;
mod readings;
mod report;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, message_of};
use super::status;
use super::wiring::{Plane, Task, Wire};
use crate::server::percent_encode;
use ambiguity::Selectors;
use behavior::{History, Limited};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use load::{Facts, Sample, Tolerance, Verdict};
use readings::Reader;
use report::Report;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(15);

/// Woken by its objects, and by the clock.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("horizontalpodautoscaler", plane);
    let controller = Autoscalers {
        client: wire.client(),
        autoscalers: wire.keys(),
        recorder: Recorder::new(wire.client(), "horizontal-pod-autoscaler"),
        histories: Mutex::default(),
        selectors: Selectors::default(),
    };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Autoscalers {
    client: Client,
    autoscalers: Lister<HorizontalPodAutoscaler>,
    recorder: Recorder,
    /// By object; locked for a look or a note.
    histories: Mutex<HashMap<Key, History>>,
    selectors: Selectors,
}

/// What is scaled, as its scale subresource tells.
struct Target {
    api: Api<DynamicObject>,
    name: String,
    /// Pods asked for.
    replicas: i32,
    /// Pods that there are.
    stated: i32,
    selector: String,
}

/// The pods of a target.
struct Seen {
    samples: Vec<Sample>,
    /// Why their usage is not known.
    silent: Option<String>,
}

impl Reconcile for Autoscalers {
    /// Compares load and target once.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(scaler) = self.autoscalers.get(&key) else {
            self.histories.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            self.selectors.forget(&key);
            return Ok(Next::Wait);
        };
        let now = Timestamp::now();
        let mut report = Report::new(&scaler, now);
        match self.target(&scaler, &key.namespace).await {
            Ok(target) => self.scale(&scaler, &key, target, &mut report, now).await?,
            Err(message) => {
                self.selectors.forget(&key);
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {message}");
                self.warn(&scaler, "FailedGetScale", &message);
                report.condition("AbleToScale", false, "FailedGetScale", &message);
            }
        }
        let new = report.status();
        if scaler.status.as_ref() != Some(&new) {
            let written = HorizontalPodAutoscaler { status: Some(new), ..(*scaler).clone() };
            status::replace(&self.client, &written).await?;
        }
        Ok(Next::After(PERIOD))
    }
}

impl Autoscalers {
    fn warn(&self, scaler: &HorizontalPodAutoscaler, reason: &'static str, message: &str) {
        self.recorder.record(scaler, Severity::Warning, reason, message.to_owned());
    }

    async fn target(&self, scaler: &HorizontalPodAutoscaler, namespace: &str) -> Result<Target, String> {
        let reference = scaler.spec.as_ref().map(|spec| spec.scale_target_ref.clone()).unwrap_or_default();
        let version = reference.api_version.as_deref().unwrap_or("apps/v1");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, &reference.kind);
        let (resource, _) = kube::discovery::pinned_kind(&self.client, &kind)
            .await
            .map_err(|_| format!("no matches for kind {:?} in group {group:?}", reference.kind))?;
        let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let scale = api.get_scale(&reference.name).await.map_err(|error| message_of(&error))?;
        let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let status = scale.status.unwrap_or_default();
        let selector = status.selector.unwrap_or_default();
        Ok(Target { api, name: reference.name, replicas, stated: status.replicas, selector })
    }

    async fn scale(
        &self,
        scaler: &HorizontalPodAutoscaler,
        key: &Key,
        target: Target,
        report: &mut Report,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        report.current(target.replicas);
        let Some(spec) = &scaler.spec else { return Ok(()) };
        if target.replicas == 0 && spec.min_replicas != Some(0) {
            let message = "scaling is disabled since the replica count of the target is zero";
            report.condition("ScalingActive", false, "ScalingDisabled", message);
            report.desired(0);
            return Ok(());
        }
        let (wanted, reason) = match behavior::within(spec, target.replicas) {
            Some((bound, reason)) => (bound, reason.to_owned()),
            None => {
                let Some((wanted, reason)) = self.weigh(scaler, key, &target, report, now).await? else {
                    return Ok(());
                };
                let limited = self.limit(key, spec, target.replicas, wanted, now);
                report.limited(&limited);
                (limited.replicas, reason)
            }
        };
        report.desired(wanted);
        if wanted == target.replicas {
            return Ok(());
        }
        if self.resize(scaler, &target, wanted, &reason, report).await {
            let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
            histories.entry(key.clone()).or_default().changed(wanted - target.replicas, now);
        }
        Ok(())
    }

    fn limit(
        &self,
        key: &Key,
        spec: &HorizontalPodAutoscalerSpec,
        replicas: i32,
        wanted: i32,
        now: Timestamp,
    ) -> Limited {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories.entry(key.clone()).or_default().limit(spec, replicas, wanted, now)
    }

    /// The size that the metrics ask for, and why.
    async fn weigh(
        &self,
        scaler: &HorizontalPodAutoscaler,
        key: &Key,
        target: &Target,
        report: &mut Report,
        now: Timestamp,
    ) -> Result<Option<(i32, String)>, kube::Error> {
        let Some(spec) = &scaler.spec else { return Ok(None) };
        if target.selector.is_empty() {
            self.warn(scaler, "SelectorRequired", "selector is required");
            let message = "the HPA target's scale is missing a selector";
            report.condition("ScalingActive", false, "InvalidSelector", message);
            return Ok(None);
        }
        let seen = self.samples(spec, &key.namespace, &target.selector).await?;
        let pods = seen.samples.iter().map(|sample| &sample.pod);
        if let Some(why) = self.selectors.ambiguity(key, &target.selector, pods) {
            for reason in ["AmbiguousSelector", "FailedComputeMetricsReplicas"] {
                self.warn(scaler, reason, &why);
            }
            report.condition("ScalingActive", false, "AmbiguousSelector", &why);
            return Ok(None);
        }
        let reader = Reader { client: &self.client, namespace: &key.namespace, selector: &target.selector };
        let facts = Facts {
            namespace: &key.namespace,
            replicas: target.replicas,
            stated: target.stated,
            samples: &seen.samples,
            silent: seen.silent.as_deref(),
            now,
            tolerance: Tolerance::of(spec),
        };
        let verdict = load::judge(spec, &reader.all(spec).await, &facts);
        Ok(self.heed(scaler, verdict, report))
    }

    /// Writes down what the metrics say; answers the size they ask for, and why.
    fn heed(
        &self,
        scaler: &HorizontalPodAutoscaler,
        verdict: Verdict,
        report: &mut Report,
    ) -> Option<(i32, String)> {
        let asked = verdict.metrics.len();
        report.metrics(verdict.metrics);
        for failure in &verdict.failures {
            self.warn(scaler, failure.reason, &failure.message);
        }
        match (verdict.wanted, verdict.failures.first()) {
            (Some((wanted, metric)), _) => {
                let message =
                    format!("the HPA was able to successfully calculate a replica count from {metric}");
                report.condition("ScalingActive", true, "ValidMetricFound", &message);
                let reason = if wanted > report.replicas() {
                    format!("{metric} above target")
                } else {
                    "All metrics below target".to_owned()
                };
                Some((wanted, reason))
            }
            (None, Some(failure)) => {
                let whole = format!("the HPA was unable to compute the replica count: {}", failure.message);
                report.condition("ScalingActive", false, failure.reason, &whole);
                let failed = verdict.failures.len();
                let whole = format!(
                    "invalid metrics ({failed} invalid out of {asked}), first error is: {}{}",
                    failure.prefix, failure.message
                );
                self.warn(scaler, "FailedComputeMetricsReplicas", &whole);
                None
            }
            (None, None) => None,
        }
    }

    /// Whether the target has taken the size.
    async fn resize(
        &self,
        scaler: &HorizontalPodAutoscaler,
        target: &Target,
        replicas: i32,
        reason: &str,
        report: &mut Report,
    ) -> bool {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        if let Err(error) = target.api.patch_scale(&target.name, &PatchParams::default(), &patch).await {
            let message =
                format!("the HPA controller was unable to update the target scale: {}", message_of(&error));
            report.condition("AbleToScale", false, "FailedUpdateScale", &message);
            self.warn(
                scaler,
                "FailedRescale",
                &format!("New size: {replicas}; reason: {reason}; error: {}", message_of(&error)),
            );
            return false;
        }
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        report.condition("AbleToScale", true, "SucceededRescale", &message);
        report.rescaled();
        let message = format!("New size: {replicas}; reason: {reason}");
        self.recorder.record(scaler, Severity::Normal, "SuccessfulRescale", message);
        true
    }

    /// The pods of a target, each with its usage where that is asked for.
    async fn samples(
        &self,
        spec: &HorizontalPodAutoscalerSpec,
        namespace: &str,
        selector: &str,
    ) -> Result<Seen, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default().labels(selector)).await?.items;
        let is_own = |metric: &MetricSpec| metric.resource.is_some() || metric.container_resource.is_some();
        let usages = match spec.metrics.iter().flatten().any(is_own) {
            true => self.usages(namespace, selector).await,
            false => Ok(HashMap::new()),
        };
        let (mut usages, silent) = match usages {
            Ok(usages) => (usages, None),
            Err(error) => {
                let why = said(&error, "pods.metrics.k8s.io");
                (HashMap::new(), Some(format!("unable to fetch metrics from resource metrics API: {why}")))
            }
        };
        let sample = |pod: Pod| Sample { usage: usages.remove(&pod.name_any()), pod };
        Ok(Seen { samples: pods.into_iter().map(sample).collect(), silent })
    }

    /// What the metrics API tells, by pod.
    async fn usages(&self, namespace: &str, selector: &str) -> Result<HashMap<String, Value>, kube::Error> {
        let selector = percent_encode(selector);
        let path =
            format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
        let list: Value = self.client.request(get(path)?).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let entry = |item: Value| Some((item["metadata"]["name"].as_str()?.to_owned(), item));
        Ok(items.into_iter().filter_map(entry).collect())
    }
}

fn get(path: String) -> Result<http::Request<Vec<u8>>, kube::Error> {
    http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))
}

/// What a server of metrics said, in the words of Kubernetes' clients where nobody serves them.
fn said(error: &kube::Error, what: &str) -> String {
    let code = match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    match code {
        404 => format!("the server could not find the requested resource (get {what})"),
        503 => format!("the server is currently unable to handle the request (get {what})"),
        _ => message_of(error),
    }
}
