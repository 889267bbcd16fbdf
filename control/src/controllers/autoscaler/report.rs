//! The status of an autoscaler: sizes, metrics and conditions, with Kubernetes' reasons and words.

use super::behavior::Limited;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A status on its way from the old to the new.
pub(super) struct Report {
    status: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Report {
    /// Begins with what was so far.
    pub(super) fn new(scaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let mut status = scaler.status.clone().unwrap_or_default();
        status.observed_generation = scaler.metadata.generation.or(status.observed_generation);
        Self { status, now }
    }

    /// The size of the target as it is.
    pub(super) fn current(&mut self, replicas: i32) {
        self.status.current_replicas = Some(replicas);
        let message = "the HPA controller was able to get the target's current scale";
        self.condition("AbleToScale", true, "SucceededGetScale", message);
    }

    /// The size of the target as it was found.
    pub(super) fn replicas(&self) -> i32 {
        self.status.current_replicas.unwrap_or(0)
    }

    /// What the metrics are now.
    pub(super) fn metrics(&mut self, metrics: Vec<MetricStatus>) {
        self.status.current_metrics = Some(metrics).filter(|metrics| !metrics.is_empty());
    }

    /// The size that is wanted.
    pub(super) fn desired(&mut self, replicas: i32) {
        self.status.desired_replicas = replicas;
    }

    /// What has limited the size that is wanted.
    pub(super) fn limited(&mut self, limited: &Limited) {
        match limited.stabilized {
            Some((reason, message)) => self.condition("AbleToScale", true, reason, message),
            None => self.condition(
                "AbleToScale",
                true,
                "ReadyForNewScale",
                "recommended size matches current size",
            ),
        }
        match limited.bound {
            Some((reason, message)) => self.condition("ScalingLimited", true, reason, message),
            None => {
                let message = "the desired count is within the acceptable range";
                self.condition("ScalingLimited", false, "DesiredWithinRange", message);
            }
        }
    }

    /// The target was given another size.
    pub(super) fn rescaled(&mut self) {
        self.status.last_scale_time = Some(Time(self.now));
    }

    /// Sets one condition; its time changes with its status only.
    pub(super) fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let value = if holds { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let known = conditions.iter().position(|condition| condition.type_ == kind);
        let since = known.and_then(|at| conditions.get(at)).filter(|known| known.status == value);
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since
                .map_or(Some(Time(self.now)), |known| known.last_transition_time.clone()),
        };
        match known.and_then(|at| conditions.get_mut(at)) {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }

    /// The new status.
    pub(super) fn status(self) -> HorizontalPodAutoscalerStatus {
        self.status
    }
}
