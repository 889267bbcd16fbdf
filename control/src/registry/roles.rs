//! Roles and cluster roles: what may be done, inside a namespace or everywhere.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
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
        let path = format!("rules[{index}]");
        if fields::list(rule, "/verbs").is_empty() {
            faults.required(format!("{path}.verbs"), "verbs must contain at least one value");
        }
        let urls = fields::list(rule, "/nonResourceURLs");
        if !urls.is_empty() && role["kind"] == "Role" {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            faults.invalid(format!("{path}.nonResourceURLs"), &urls.to_vec().into(), detail);
            continue;
        }
        if urls.is_empty() {
            for field in ["apiGroups", "resources"] {
                if fields::list(rule, &format!("/{field}")).is_empty() {
                    let detail = match field {
                        "apiGroups" => "resource rules must supply at least one api group",
                        _ => "resource rules must supply at least one resource",
                    };
                    faults.required(format!("{path}.{field}"), detail);
                }
            }
        }
    }
}
