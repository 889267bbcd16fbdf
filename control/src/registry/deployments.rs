//! Deployments: pods kept running and replaced gradually when their template changes.

use super::columns::{self, age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, pod_template, status_rules, validation, warnings};
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    let mut columns = vec![
        name(),
        text("Ready", "Pods that are ready, of those wanted.", |object| {
            let ready = fields::int(object, "/status/readyReplicas").unwrap_or(0);
            format!("{ready}/{}", fields::int(object, "/spec/replicas").unwrap_or(0))
        }),
        integer("Up-to-date", "Pods of the current template.", |object| {
            fields::int(object, "/status/updatedReplicas").unwrap_or(0)
        }),
        integer("Available", "Pods that have been ready for long enough.", |object| {
            fields::int(object, "/status/availableReplicas").unwrap_or(0)
        }),
        age(),
    ];
    columns.extend(columns::workload(true));
    Row::namespaced("apps", "v1", "Deployment", "deployments")
        .short(&["deploy"])
        .category("all")
        .status()
        .scale()
        .columns(columns)
        .rules(Rules {
            has_generation: true,
            defaults,
            on_status_update: keep_labels,
            validate,
            validate_status_update: status_rules::of_deployment,
            validate_update,
            warnings: warnings::of_named_workload,
            ..Rules::NONE
        })
        .done()
}

/// A status comes without labels: those of a deployment are its author's, unlike those of other workloads.
fn keep_labels(new: &mut Value, old: &Value) {
    if let (Some(new), Some(old)) = (new.get_mut("metadata"), old.get("metadata")) {
        fields::copy(new, old, "labels");
    }
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill(spec, "replicas", 1);
    fields::fill(spec, "revisionHistoryLimit", 10);
    fields::fill(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = fields::child(spec, "strategy") {
        fields::fill_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = fields::child(strategy, "rollingUpdate")
        {
            fields::fill(rolling, "maxUnavailable", "25%");
            fields::fill(rolling, "maxSurge", "25%");
        }
    }
    pod_template::defaults(spec);
}

fn validate(object: &Value, faults: &mut Faults) {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        validation::not_negative(object, &format!("spec.{field}"), faults);
    }
    validation::selector_matches_template(object, "deployment", faults);
    pod_template::validate_lasting(object, "spec.template", "ReplicaSet", faults);
    strategy(object, faults);
    let minimum = fields::int(object, "/spec/minReadySeconds").unwrap_or(0);
    if let Some(deadline) =
        fields::int(object, "/spec/progressDeadlineSeconds").filter(|deadline| *deadline <= minimum)
    {
        faults.invalid(
            "spec.progressDeadlineSeconds",
            &json!(deadline),
            "must be greater than minReadySeconds",
        );
    }
}

fn strategy(object: &Value, faults: &mut Faults) {
    match fields::text(object, "/spec/strategy/type") {
        "RollingUpdate" => {
            validation::int_or_part(object, "spec.strategy.rollingUpdate.maxUnavailable", faults);
            validation::int_or_percent(object, "spec.strategy.rollingUpdate.maxSurge", faults);
            let zero = |field: &str| {
                let value = object.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
                value.is_some_and(|value| *value == 0 || *value == "0%")
            };
            if zero("maxUnavailable") && zero("maxSurge") {
                let value =
                    object.pointer("/spec/strategy/rollingUpdate/maxUnavailable").unwrap_or(&Value::Null);
                faults.invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    value,
                    "may not be 0 when `maxSurge` is 0",
                );
            }
        }
        "Recreate" => {
            if object.pointer("/spec/strategy/rollingUpdate").is_some() {
                faults.forbidden(
                    "spec.strategy.rollingUpdate",
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        other => faults.not_supported_value(
            "spec.strategy",
            &json!({"Type": other, "RollingUpdate": null}),
            &["Recreate", "RollingUpdate"],
        ),
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec.selector", faults);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_brings_no_labels() {
        let old = json!({"metadata": {"name": "d", "labels": {"a": "author"}}, "spec": {"replicas": 2}, "status": {}});
        let mut new = json!({"metadata": {"name": "d", "labels": {"a": "other"}, "annotations": {"b": "c"}},
            "spec": {"replicas": 3}, "status": {"replicas": 2}});
        row().strategy.prepare_status_update(&mut new, &old);
        let expected = json!({"metadata": {"name": "d", "labels": {"a": "author"}, "annotations": {"b": "c"}},
            "spec": {"replicas": 2}, "status": {"replicas": 2}});
        assert_eq!(new, expected);
    }
}
