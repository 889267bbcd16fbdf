//! Roles and cluster roles: what may be done, inside a namespace or everywhere.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use serde_json::Value;

/// The rows of both.
pub(super) fn rows() -> Vec<Resource> {
    let rules = Rules { validate, name: knarr_api::names::path_segment, ..Rules::NONE };
    let group = super::rolebindings::GROUP;
    vec![
        Row::namespaced(group, "v1", "Role", "roles").columns(vec![name(), created_at()]).rules(rules).done(),
        Row::cluster(group, "v1", "ClusterRole", "clusterroles")
            .columns(vec![name(), created_at()])
            .rules(rules)
            .done(),
    ]
}

fn validate(role: &Value, faults: &mut Faults) {
    for (index, rule) in fields::list(role, "/rules").iter().enumerate() {
        rule_of(rule, role["kind"] == "Role", &format!("rules[{index}]"), faults);
    }
    let Some(aggregation) = role.get("aggregationRule") else { return };
    let (selectors, path) =
        (fields::list(aggregation, "/clusterRoleSelectors"), "aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        faults.required(path, detail);
    }
    for (index, selector) in selectors.iter().enumerate() {
        validation::label_selector(selector, &format!("{path}[{index}]"), faults);
    }
}

fn rule_of(rule: &Value, namespaced: bool, path: &str, faults: &mut Faults) {
    let given = |field: &str| !fields::list(rule, field).is_empty();
    if !given("/verbs") {
        faults.required(format!("{path}.verbs"), "verbs must contain at least one value");
    }
    let urls = fields::list(rule, "/nonResourceURLs");
    if urls.is_empty() {
        for (field, what) in [("apiGroups", "api group"), ("resources", "resource")] {
            if !given(&format!("/{field}")) {
                let detail = format!("resource rules must supply at least one {what}");
                faults.required(format!("{path}.{field}"), &detail);
            }
        }
        return;
    }
    let field = format!("{path}.nonResourceURLs");
    if namespaced {
        let detail = "namespaced rules cannot apply to non-resource URLs";
        faults.invalid(field.as_str(), &urls.to_vec().into(), detail);
    }
    if given("/apiGroups") || given("/resources") || given("/resourceNames") {
        let detail = "rules cannot apply to both regular resources and non-resource URLs";
        faults.invalid(field, &urls.to_vec().into(), detail);
    }
}
