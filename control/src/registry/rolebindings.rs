//! Role bindings and cluster role bindings: who has a role.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

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
    if let Some(role) = fields::child(binding, "roleRef") {
        fields::fill_text(role, "apiGroup", GROUP);
    }
    for subject in fields::each(binding, "subjects") {
        if matches!(fields::text(subject, "/kind"), "User" | "Group") {
            fields::fill_text(subject, "apiGroup", GROUP);
        }
    }
}

fn validate(binding: &Value, faults: &mut Faults) {
    let cluster = binding["kind"] == "ClusterRoleBinding";
    let group = fields::text(binding, "/roleRef/apiGroup");
    if group != GROUP {
        faults.not_supported("roleRef.apiGroup", group, &[GROUP]);
    }
    let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    let role = fields::text(binding, "/roleRef/kind");
    if !kinds.contains(&role) {
        faults.not_supported("roleRef.kind", role, kinds);
    }
    let name = fields::text(binding, "/roleRef/name");
    validation::required_name("roleRef.name", name, names::path_segment, faults);
    for (index, subject) in fields::list(binding, "/subjects").iter().enumerate() {
        subject_of(subject, cluster, &format!("subjects[{index}]"), faults);
    }
}

fn subject_of(subject: &Value, cluster: bool, path: &str, faults: &mut Faults) {
    let (name, group) = (fields::text(subject, "/name"), fields::text(subject, "/apiGroup"));
    if name.is_empty() {
        faults.required(format!("{path}.name"), "");
    }
    let kind = fields::text(subject, "/kind");
    let wanted = match kind {
        "User" | "Group" => GROUP,
        "ServiceAccount" => "",
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            faults.not_supported(format!("{path}.kind"), other, &kinds);
            return;
        }
    };
    if kind == "ServiceAccount" {
        validation::optional_name(&format!("{path}.name"), name, names::dns1123_subdomain, faults);
    }
    if group != wanted {
        faults.not_supported(format!("{path}.apiGroup"), group, &[wanted]);
    }
    if kind == "ServiceAccount" && cluster && fields::text(subject, "/namespace").is_empty() {
        faults.required(format!("{path}.namespace"), "");
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    if new.get("roleRef") != old.get("roleRef") {
        let part = |field: &str| fields::text(new, &format!("/roleRef/{field}"));
        // Kubernetes tells the reference in its inner form.
        let shown = json!({"APIGroup": part("apiGroup"), "Kind": part("kind"), "Name": part("name")});
        faults.invalid("roleRef", &shown, "cannot change roleRef");
    }
}
