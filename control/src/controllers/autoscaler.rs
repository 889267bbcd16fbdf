//! HorizontalPodAutoscaler: as many pods as keep the load of each near the target.
//!
//! Every fifteen seconds the usage of the pods is read from the metrics API and compared with what they request.
//! Recent recommendations and changes are remembered here, so that a short dip takes nothing away and a burst does not
//! run ahead of the policies; they are lost with the process, which only makes it more careful.

mod behavior;
mod load;
mod report;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, message_of};
use super::status;
use super::wiring::{Plane, Task, Wire};
use crate::server::percent_encode;
use behavior::History;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use load::{Sample, Verdict};
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
}

/// What is scaled, as its scale subresource tells.
struct Target {
    api: Api<DynamicObject>,
    name: String,
    replicas: i32,
    selector: String,
}

impl Reconcile for Autoscalers {
    /// Compares load and target once.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(scaler) = self.autoscalers.get(&key) else {
            self.histories.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            return Ok(Next::Wait);
        };
        let now = Timestamp::now();
        let mut report = Report::new(&scaler, now);
        match self.target(&scaler, &key.namespace).await {
            Ok(target) => self.scale(&scaler, &key, target, &mut report, now).await?,
            Err(message) => {
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
        let selector = scale.status.and_then(|status| status.selector).unwrap_or_default();
        Ok(Target { api, name: reference.name, replicas, selector })
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
        if target.replicas == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            report.condition("ScalingActive", false, "ScalingDisabled", message);
            return Ok(());
        }
        let Some(spec) = &scaler.spec else { return Ok(()) };
        let samples = self.samples(&key.namespace, &target.selector).await?;
        let verdict = load::judge(spec, target.replicas, &samples, now);
        let Some((wanted, reason)) = self.heed(scaler, verdict, report) else { return Ok(()) };
        let limited = {
            let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
            histories.entry(key.clone()).or_default().limit(spec, target.replicas, wanted, now)
        };
        report.limited(&limited);
        if limited.replicas == target.replicas {
            return Ok(());
        }
        self.resize(scaler, &target, limited.replicas, &reason, report).await?;
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories.entry(key.clone()).or_default().changed(limited.replicas - target.replicas, now);
        Ok(())
    }

    /// Writes down what the metrics say; answers the size they ask for, and why.
    fn heed(
        &self,
        scaler: &HorizontalPodAutoscaler,
        verdict: Verdict,
        report: &mut Report,
    ) -> Option<(i32, String)> {
        report.metrics(verdict.metrics);
        for (reason, message) in &verdict.failures {
            self.warn(scaler, reason, message);
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
            (None, failure) => {
                let (reason, message) =
                    failure.cloned().unwrap_or(("InvalidMetricSourceType", String::new()));
                let whole = format!("the HPA was unable to compute the replica count: {message}");
                report.condition("ScalingActive", false, reason, &whole);
                let whole = format!("invalid metrics (1 invalid out of 1), first error is: {message}");
                self.warn(scaler, "FailedComputeMetricsReplicas", &whole);
                None
            }
        }
    }

    async fn resize(
        &self,
        scaler: &HorizontalPodAutoscaler,
        target: &Target,
        replicas: i32,
        reason: &str,
        report: &mut Report,
    ) -> Result<(), kube::Error> {
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
            return Ok(());
        }
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        report.condition("AbleToScale", true, "SucceededRescale", &message);
        report.rescaled();
        let message = format!("New size: {replicas}; reason: {reason}");
        self.recorder.record(scaler, Severity::Normal, "SuccessfulRescale", message);
        Ok(())
    }

    /// The pods of a target, each with its usage where the metrics API has any.
    async fn samples(&self, namespace: &str, selector: &str) -> Result<Vec<Sample>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default().labels(selector)).await?.items;
        let usages = self.usages(namespace, selector).await?;
        Ok(pods
            .into_iter()
            .map(|pod| {
                let usage = usages.as_ref().and_then(|usages| usages.get(&pod.name_any()).cloned());
                Sample { usage, served: usages.is_some(), pod }
            })
            .collect())
    }

    /// Containers and their usage, by pod; nothing where the metrics API is not served.
    async fn usages(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<Option<HashMap<String, Value>>, kube::Error> {
        let path = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={}",
            percent_encode(selector)
        );
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        let Ok(list) = self.client.request::<Value>(request).await else { return Ok(None) };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let entry =
            |item: Value| Some((item["metadata"]["name"].as_str()?.to_owned(), item["containers"].clone()));
        Ok(Some(items.into_iter().filter_map(entry).collect()))
    }
}
