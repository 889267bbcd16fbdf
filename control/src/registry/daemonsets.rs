//! Daemon sets: one pod on every node that suits it.

use super::columns::{self, age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, pod_template, validation};
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
        .rules(Rules { has_generation: true, defaults, on_create, validate, validate_update, ..Rules::NONE })
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
    validation::one_of(object, "spec.updateStrategy.type", &["OnDelete", "RollingUpdate"], faults);
    validation::selector_matches_template(object, faults);
    pod_template::validate(object, "spec.template", &["Always"], faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec.selector", faults);
}
