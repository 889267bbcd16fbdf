//! Terms that select nodes by labels and name: node affinity of pods, and of volumes.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm};
use kube::ResourceExt;

/// One matching term is enough; a term without requirements matches nothing.
pub(crate) fn matches(terms: &[NodeSelectorTerm], node: &Node) -> bool {
    terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let name = node.metadata.name.as_deref();
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|one| meets(one, node.labels().get(&one.key).map(String::as_str)))
            && fields.iter().all(|one| one.key == "metadata.name" && meets(one, name))
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
