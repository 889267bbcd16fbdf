//! Daemon sets: one pod on every node that suits it.

use super::columns::{self, age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, pod_template, status_rules, validation, warnings};
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    let mut columns = vec![
        name(),
        integer("Desired", "Nodes that should run its pod.", |object| {
            status(object, "desiredNumberScheduled")
        }),
        integer("Current", "Nodes that run its pod.", |object| status(object, "currentNumberScheduled")),
        integer("Ready", "Nodes where the pod is ready.", |object| status(object, "numberReady")),
        integer("Up-to-date", "Nodes with a pod of the current template.", |object| {
            status(object, "updatedNumberScheduled")
        }),
        integer("Available", "Nodes where the pod has been ready for long enough.", |object| {
            status(object, "numberAvailable")
        }),
        text("Node Selector", "Labels of the nodes that suit it.", |object| {
            cells::labels(object, "/spec/template/spec/nodeSelector")
        }),
        age(),
    ];
    columns.extend(columns::workload(true));
    Row::namespaced("apps", "v1", "DaemonSet", "daemonsets")
        .short(&["ds"])
        .category("all")
        .status()
        .columns(columns)
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            validate,
            validate_status_update: status_rules::of_daemon_set,
            validate_update,
            warnings: warnings::of_workload,
            ..Rules::NONE
        })
        .done()
}

fn status(object: &Value, field: &str) -> i64 {
    fields::int(object, &format!("/status/{field}")).unwrap_or(0)
}

fn on_create(object: &mut Value) {
    let zero = json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0});
    fields::set(object, "status", zero);
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = fields::child(spec, "updateStrategy") {
        fields::fill_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = fields::child(strategy, "rollingUpdate")
        {
            fields::fill(rolling, "maxUnavailable", 1);
            fields::fill(rolling, "maxSurge", 0);
        }
    }
    pod_template::defaults(spec);
}

fn validate(object: &Value, faults: &mut Faults) {
    validation::not_negative(object, "spec.minReadySeconds", faults);
    validation::not_negative(object, "spec.revisionHistoryLimit", faults);
    strategy(object, faults);
    if let Some(selector) = object.pointer("/spec/selector") {
        validation::label_selector(selector, "spec.selector", faults);
        if validation::is_empty_selector(selector) {
            faults.invalid("spec.selector", selector, "empty selector is invalid for daemonset");
        }
    }
    validation::labels_match_selector(object, faults);
    pod_template::validate_lasting(object, "spec.template", "DaemonSet", faults);
}

/// Pods go before others come, or the other way round: one of both, and not neither.
fn strategy(object: &Value, faults: &mut Faults) {
    let kind = fields::text(object, "/spec/updateStrategy/type");
    if !matches!(kind, "OnDelete" | "RollingUpdate") {
        let value = json!({"Type": kind, "RollingUpdate": null});
        faults.not_supported_value("spec.updateStrategy", &value, &["RollingUpdate", "OnDelete"]);
    }
    let path = "spec.updateStrategy.rollingUpdate";
    let Some(rolling) = validation::at(object, path) else { return };
    for field in ["maxUnavailable", "maxSurge"] {
        validation::int_or_part(object, &format!("{path}.{field}"), faults);
    }
    let zero = |field: &str| rolling.get(field).is_none_or(|value| *value == 0 || *value == "0%");
    match (zero("maxUnavailable"), zero("maxSurge")) {
        (true, true) => {
            faults.required(format!("{path}.maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        (false, false) => faults.invalid(
            format!("{path}.maxSurge"),
            rolling.get("maxSurge").unwrap_or(&Value::Null),
            "may not be set when maxUnavailable is non-zero",
        ),
        _ => {}
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec.selector", faults);
}
