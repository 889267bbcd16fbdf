//! `podFailurePolicy`: what a failed pod means, by the exit codes of its containers and its conditions.

use crate::controllers::pods;
use k8s_openapi::api::batch::v1::{
    Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

/// The action of the first rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The job fails, with this message.
    FailJob(String),
    /// The index fails, however many failures it has left.
    FailIndex,
    /// As if the pod had not failed.
    Ignore,
    /// One failure more.
    Count,
}

/// Decides on a failed pod; `None` where no rule matches.
pub(super) fn verdict(job: &Job, pod: &Pod) -> Option<Verdict> {
    let rules = &job.spec.as_ref()?.pod_failure_policy.as_ref()?.rules;
    if pods::phase(pod) != "Failed" {
        return None;
    }
    rules.iter().enumerate().find_map(|(at, rule)| {
        let codes = rule.on_exit_codes.as_ref().and_then(|codes| by_exit_code(codes, pod));
        let conditions = || by_condition(rule.on_pod_conditions.as_deref()?, pod);
        let cause = codes.or_else(conditions)?;
        Some(match rule.action.as_str() {
            "FailJob" => Verdict::FailJob(format!("{cause} matching FailJob rule at index {at}")),
            "FailIndex" => Verdict::FailIndex,
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        })
    })
}

fn by_exit_code(rule: &PodFailurePolicyOnExitCodesRequirement, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let named = containers
        .filter(|container| rule.container_name.as_ref().is_none_or(|name| *name == container.name));
    named.filter_map(|container| Some((container, exit_code(container)?))).find_map(|(container, code)| {
        let matches = code != 0
            && match rule.operator.as_str() {
                "In" => rule.values.contains(&code),
                "NotIn" => !rule.values.contains(&code),
                _ => false,
            };
        let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        matches.then(|| format!("Container {} for pod {place} failed with exit code {code}", container.name))
    })
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn by_condition(patterns: &[PodFailurePolicyOnPodConditionsPattern], pod: &Pod) -> Option<String> {
    let wanted = |pattern: &PodFailurePolicyOnPodConditionsPattern| {
        let condition = pods::condition(pod, &pattern.type_);
        condition.is_some_and(|condition| condition.status == pattern.status)
    };
    let pattern = patterns.iter().find(|pattern| wanted(pattern))?;
    let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    Some(format!("Pod {place} has condition {}", pattern.type_))
}
