//! Role bindings and cluster role bindings: who has a role.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
use serde_json::Value;

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// The rows of both.
pub(super) fn rows() -> Vec<Resource> {
    let columns = || {
        vec![
            name(),
            text("Role", "The role.", |binding| {
                format!(
                    "{}/{}",
                    fields::text(binding, "/roleRef/kind"),
                    fields::text(binding, "/roleRef/name")
                )
            }),
            age(),
            text("Users", "Users that have it.", |binding| subjects(binding, "User")).wide(),
            text("Groups", "Groups that have it.", |binding| subjects(binding, "Group")).wide(),
            text("ServiceAccounts", "Service accounts that have it.", |binding| {
                subjects(binding, "ServiceAccount")
            })
            .wide(),
        ]
    };
    let rules =
        Rules { defaults, validate, validate_update, name: knarr_api::names::path_segment, ..Rules::NONE };
    vec![
        Row::namespaced(GROUP, "v1", "RoleBinding", "rolebindings").columns(columns()).rules(rules).done(),
        Row::cluster(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings")
            .columns(columns())
            .rules(rules)
            .done(),
    ]
}

fn subjects(binding: &Value, kind: &str) -> String {
    let all =
        fields::list(binding, "/subjects").iter().filter(|subject| fields::text(subject, "/kind") == kind);
    let names = all.map(|subject| match (kind, fields::text(subject, "/namespace")) {
        ("ServiceAccount", namespace) => format!("{namespace}/{}", fields::text(subject, "/name")),
        _ => fields::text(subject, "/name").to_owned(),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn defaults(binding: &mut Value) {
    if let Some(role) = binding.get_mut("roleRef") {
        fields::fill_text(role, "apiGroup", GROUP);
    }
    for subject in fields::each(binding, "subjects") {
        if matches!(fields::text(subject, "/kind"), "User" | "Group") {
            fields::fill_text(subject, "apiGroup", GROUP);
        }
    }
}

fn validate(binding: &Value, faults: &mut Faults) {
    let kinds: &[&str] =
        if binding["kind"] == "ClusterRoleBinding" { &["ClusterRole"] } else { &["ClusterRole", "Role"] };
    let role = fields::text(binding, "/roleRef/kind");
    if !kinds.contains(&role) {
        faults.not_supported("roleRef.kind", role, kinds);
    }
    if fields::text(binding, "/roleRef/name").is_empty() {
        faults.required("roleRef.name", "");
    }
    for (index, subject) in fields::list(binding, "/subjects").iter().enumerate() {
        let path = format!("subjects[{index}]");
        if fields::text(subject, "/name").is_empty() {
            faults.required(format!("{path}.name"), "");
        }
        match fields::text(subject, "/kind") {
            "User" | "Group" => {}
            "ServiceAccount" if fields::text(subject, "/namespace").is_empty() => {
                if binding["kind"] == "ClusterRoleBinding" {
                    faults.required(format!("{path}.namespace"), "");
                }
            }
            "ServiceAccount" => {}
            other => {
                faults.not_supported(format!("{path}.kind"), other, &["Group", "ServiceAccount", "User"])
            }
        }
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    if new.get("roleRef") != old.get("roleRef") {
        faults.invalid("roleRef", new.get("roleRef").unwrap_or(&Value::Null), "cannot change roleRef");
    }
}
