//! Replication controllers: what replica sets were before they had set-based selectors.

use super::columns::{age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, pod_template, status_rules, validation, warnings};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .category("all")
        .status()
        .scale()
        .columns(vec![
            name(),
            integer("Desired", "Pods wanted.", |object| fields::int(object, "/spec/replicas").unwrap_or(0)),
            integer("Current", "Pods that exist.", |object| {
                fields::int(object, "/status/replicas").unwrap_or(0)
            }),
            integer("Ready", "Pods that are ready.", |object| {
                fields::int(object, "/status/readyReplicas").unwrap_or(0)
            }),
            age(),
            text("Containers", "Names of the containers.", |object| {
                cells::container_fields(object, "/spec/template/spec", "name")
            })
            .wide(),
            text("Images", "Images of the containers.", |object| {
                cells::container_fields(object, "/spec/template/spec", "image")
            })
            .wide(),
            text("Selector", "Labels of its pods.", |object| cells::labels(object, "/spec/selector")).wide(),
        ])
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            validate,
            validate_status_update: status_rules::of_replicas,
            warnings: warnings::of_named_workload,
            ..Rules::NONE
        })
        .done()
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", serde_json::json!({"replicas": 0}));
}

/// Selector and labels of the controller are those of the template unless it says otherwise.
fn defaults(object: &mut Value) {
    let labels = object.pointer("/spec/template/metadata/labels").cloned();
    if let Some(labels) = labels {
        if let Some(metadata) = fields::child(object, "metadata") {
            fields::fill(metadata, "labels", labels.clone());
        }
        if let Some(spec) = fields::child(object, "spec")
            && fields::pairs(spec, "/selector").next().is_none()
        {
            fields::set(spec, "selector", labels);
        }
    }
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill(spec, "replicas", 1);
    if spec.get("template").is_some() {
        pod_template::defaults(spec);
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    validation::not_negative(object, "spec.replicas", faults);
    validation::not_negative(object, "spec.minReadySeconds", faults);
    if fields::pairs(object, "/spec/selector").next().is_none() {
        faults.required("spec.selector", "");
    }
    if object.pointer("/spec/template").is_none() {
        faults.required("spec.template", "");
        return;
    }
    let label =
        |key: &str| object.pointer("/spec/template/metadata/labels").and_then(|labels| labels.get(key));
    if !fields::pairs(object, "/spec/selector").all(|(key, value)| label(key) == Some(value)) {
        let labels = object.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
        faults.invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        );
    }
    pod_template::validate(object, "spec.template", &["Always"], faults);
}
