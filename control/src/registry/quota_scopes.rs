//! Which pods or claims a quota counts: its scopes, and what can be counted under each.

use super::faults::Faults;
use super::{fields, resource_names};
use serde_json::{Value, json};

const SELECTOR: &str = "spec.scopeSelector.matchExpressions";
const NEEDS_EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Every fault of the scopes of a quota.
pub(super) fn validate(quota: &Value, faults: &mut Faults) {
    let listed: Vec<&str> = fields::list(quota, "/spec/scopes").iter().filter_map(Value::as_str).collect();
    for scope in &listed {
        if !SCOPES.contains(scope) {
            faults.invalid("spec.scopes", &json!(listed), "unsupported scope");
        }
        for _ in uncountable(quota, scope) {
            faults.invalid("spec.scopes", &json!(listed), "unsupported scope applied to resource");
        }
    }
    for _ in contradictions(&listed) {
        faults.invalid("spec.scopes", &json!(listed), "conflicting scopes");
    }
    selector(quota, faults);
}

fn selector(quota: &Value, faults: &mut Faults) {
    let requirements = fields::list(quota, "/spec/scopeSelector/matchExpressions");
    for requirement in requirements {
        let scope = fields::text(requirement, "/scopeName");
        if !SCOPES.contains(&scope) {
            faults.invalid(format!("{SELECTOR}.scopeName"), &json!(scope), "unsupported scope");
        }
        for _ in uncountable(quota, scope) {
            faults.invalid(SELECTOR, &inner_form(requirements), "unsupported scope applied to resource");
        }
        operator(requirement, scope, faults);
    }
    let names: Vec<&str> =
        requirements.iter().map(|requirement| fields::text(requirement, "/scopeName")).collect();
    for _ in contradictions(&names) {
        faults.invalid(SELECTOR, &Value::Null, "conflicting scopes");
    }
}

fn operator(requirement: &Value, scope: &str, faults: &mut Faults) {
    let (operator, values) = (fields::text(requirement, "/operator"), fields::list(requirement, "/values"));
    let valued = matches!(scope, "PriorityClass" | "VolumeAttributesClass") || !SCOPES.contains(&scope);
    if !valued && operator != "Exists" {
        faults.invalid(format!("{SELECTOR}.operator"), &json!(operator), NEEDS_EXISTS);
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => faults.required(
            format!("{SELECTOR}.values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => faults.invalid(
            format!("{SELECTOR}.values"),
            &json!(values),
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            faults.invalid(format!("{SELECTOR}.operator"), &json!(other), "not a valid selector operator")
        }
    }
}

/// Kubernetes tells the selector in its inner form.
fn inner_form(requirements: &[Value]) -> Value {
    let part = |requirement: &Value, field: &str| requirement.get(field).cloned().unwrap_or(Value::Null);
    let inner = requirements.iter().map(|requirement| {
        json!({
            "ScopeName": part(requirement, "scopeName"), "Operator": part(requirement, "operator"),
            "Values": part(requirement, "values"),
        })
    });
    json!({"MatchExpressions": inner.collect::<Vec<_>>()})
}

/// The limits of the quota that cannot be counted under a scope.
fn uncountable<'a>(quota: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a str> {
    fields::pairs(quota, "/spec/hard")
        .map(|(name, _)| name)
        .filter(|name| resource_names::is_of_quota(name))
        .filter(move |name| {
            let asked =
                name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
            match scope {
                "BestEffort" => *name != "pods",
                "VolumeAttributesClass" => !matches!(*name, "persistentvolumeclaims" | "requests.storage"),
                scope if SCOPES.contains(&scope) => *name != "pods" && !matches!(asked, "cpu" | "memory"),
                _ => false,
            }
        })
}

/// The pairs of scopes that no pod fulfils at once.
fn contradictions<'a>(scopes: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")]
        .into_iter()
        .filter(|(one, other)| scopes.contains(one) && scopes.contains(other))
}
