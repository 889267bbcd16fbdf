//! Which objects a quota is about: `scopes` and `scopeSelector`. All of them must hold.

use crate::registry::{Resource, fields};
use serde_json::Value;

/// Whether the quota counts the object.
pub(super) fn includes(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let is_pod = resource.group.is_empty() && resource.plural == "pods";
    let scopes = fields::list(quota, "/spec/scopes");
    let expressions = fields::list(quota, "/spec/scopeSelector/matchExpressions");
    if scopes.is_empty() && expressions.is_empty() {
        return true;
    }
    // Scopes say something about pods only: a quota that has some counts no other objects.
    is_pod
        && scopes.iter().filter_map(Value::as_str).all(|scope| holds(scope, object))
        && expressions.iter().all(|expression| selects(expression, object))
}

fn holds(scope: &str, pod: &Value) -> bool {
    let terminating = fields::int(pod, "/spec/activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
    let best_effort = fields::text(pod, "/status/qosClass") == "BestEffort";
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        "PriorityClass" => !fields::text(pod, "/spec/priorityClassName").is_empty(),
        _ => false,
    }
}

fn selects(expression: &Value, pod: &Value) -> bool {
    let scope = fields::text(expression, "/scopeName");
    if scope != "PriorityClass" {
        return holds(scope, pod);
    }
    let class = fields::text(pod, "/spec/priorityClassName");
    let listed = fields::list(expression, "/values").iter().any(|value| value == class);
    match fields::text(expression, "/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => !class.is_empty(),
        "DoesNotExist" => class.is_empty(),
        _ => false,
    }
}

/// Whether an affinity term of the pod looks at other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let at = |field: &str| fields::list(pod, &format!("/spec/affinity/{kind}/{field}"));
        let required = at("requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = at("preferredDuringSchedulingIgnoredDuringExecution").iter();
        let terms = required.chain(preferred.filter_map(|weighted| weighted.get("podAffinityTerm")));
        terms.into_iter().any(|term| {
            !fields::list(term, "/namespaces").is_empty() || term.get("namespaceSelector").is_some()
        })
    })
}
