//! Namespaces: the names of everything else live in one.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, amount_status_rules, faults::Faults, fields};
use knarr_api::names;
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::cluster("", "v1", "Namespace", "namespaces")
        .short(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .status()
        .subresource("finalize", None, &["update"])
        .columns(vec![
            name(),
            text("Status", "Whether it is in use or going away.", |object| {
                fields::text(object, "/status/phase").to_owned()
            }),
            age(),
        ])
        .rules(Rules {
            defaults,
            on_create,
            on_update,
            validate,
            validate_status_update: amount_status_rules::of_namespace,
            selectable,
            name: knarr_api::names::dns1123_label,
            ..Rules::NONE
        })
        .done()
}

/// Every namespace carries its name as a label, so that selectors can name it.
fn defaults(object: &mut Value) {
    let name = fields::text(object, "/metadata/name").to_owned();
    if let (false, Some(metadata)) = (name.is_empty(), fields::child(object, "metadata")) {
        fields::set_in(metadata, "labels", "kubernetes.io/metadata.name", name.into());
    }
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", json!({"phase": "Active"}));
    let Some(spec) = fields::child(object, "spec") else { return };
    if !fields::list(spec, "/finalizers").iter().any(|finalizer| finalizer == "kubernetes") {
        let mut finalizers = fields::list(spec, "/finalizers").to_vec();
        finalizers.push("kubernetes".into());
        fields::set(spec, "finalizers", finalizers.into());
    }
}

fn validate(namespace: &Value, faults: &mut Faults) {
    for finalizer in fields::list(namespace, "/spec/finalizers").iter().filter_map(Value::as_str) {
        for detail in names::finalizer(finalizer) {
            faults.invalid("spec.finalizers", &json!(finalizer), &detail);
        }
    }
}

/// The finalizers of the spec are changed through `/finalize` only.
fn on_update(new: &mut Value, old: &Value) {
    fields::copy(new, old, "spec");
}

fn selectable(object: &Value, field: &str) -> Option<String> {
    match field {
        "status.phase" => Some(fields::text(object, "/status/phase").to_owned()),
        "name" => Some(fields::text(object, "/metadata/name").to_owned()),
        _ => None,
    }
}
