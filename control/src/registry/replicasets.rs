//! Replica sets: a number of pods of one template. Deployments make them.

use super::columns::{self, age, integer, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, pod_template, status_rules, validation, warnings};
use serde_json::Value;

pub(super) fn row() -> Resource {
    let mut columns = vec![
        name(),
        integer("Desired", "Pods wanted.", |object| fields::int(object, "/spec/replicas").unwrap_or(0)),
        integer("Current", "Pods that exist.", |object| fields::int(object, "/status/replicas").unwrap_or(0)),
        integer("Ready", "Pods that are ready.", |object| {
            fields::int(object, "/status/readyReplicas").unwrap_or(0)
        }),
        age(),
    ];
    columns.extend(columns::workload(true));
    Row::namespaced("apps", "v1", "ReplicaSet", "replicasets")
        .short(&["rs"])
        .category("all")
        .status()
        .scale()
        .columns(columns)
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            validate,
            validate_status_update: status_rules::of_replicas,
            validate_update,
            selectable,
            warnings: warnings::of_named_workload,
            ..Rules::NONE
        })
        .done()
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", serde_json::json!({"replicas": 0}));
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill(spec, "replicas", 1);
    pod_template::defaults(spec);
}

fn validate(object: &Value, faults: &mut Faults) {
    validation::not_negative(object, "spec.replicas", faults);
    validation::not_negative(object, "spec.minReadySeconds", faults);
    validation::selector_matches_template(object, "deployment", faults);
    pod_template::validate_lasting(object, "spec.template", "ReplicaSet", faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec.selector", faults);
}

fn selectable(object: &Value, field: &str) -> Option<String> {
    (field == "status.replicas").then(|| fields::int(object, "/status/replicas").unwrap_or(0).to_string())
}
