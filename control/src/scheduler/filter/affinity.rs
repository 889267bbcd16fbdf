//! NodeAffinity: `nodeSelector` and the required terms of node affinity.

use super::Reasons;
use crate::scheduler::snapshot::NodeState;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use kube::ResourceExt;

/// Rules out nodes whose labels or name do not match.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    if selected(pod, node) && required(pod, node) {
        return Reasons::new();
    }
    vec!["node(s) didn't match Pod's node affinity/selector".into()]
}

fn selected(pod: &Pod, node: &NodeState) -> bool {
    let mut selector = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    selector.all(|(key, value)| node.node.labels().get(key) == Some(value))
}

fn required(pod: &Pod, node: &NodeState) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
    {
        Some(selector) => matches_terms(&selector.node_selector_terms, node),
        None => true,
    }
}

/// One matching term is enough; a term without requirements matches nothing.
pub(in crate::scheduler) fn matches_terms(terms: &[NodeSelectorTerm], node: &NodeState) -> bool {
    terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let name = node.name();
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|one| meets(one, node.node.labels().get(&one.key).map(String::as_str)))
            && fields.iter().all(|one| one.key == "metadata.name" && meets(one, Some(&name)))
    })
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|one| one == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = |holds: fn(i64, i64) -> bool| {
        let right = values.first().and_then(|text| number(text));
        value.and_then(number).zip(right).is_some_and(|(left, right)| holds(left, right))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|left, right| left > right),
        "Lt" => compared(|left, right| left < right),
        _ => false,
    }
}
