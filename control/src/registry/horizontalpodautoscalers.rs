//! Horizontal pod autoscalers: the number of pods by their load. Version 2 is stored; version 1 knows one metric only.

use super::columns::{age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{
    Column, Resource, StoredAs, autoscaler_behavior, autoscaler_metrics, cells, faults::Faults, fields,
    status_rules, validation,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The rows of both versions.
pub(super) fn rows() -> Vec<Resource> {
    let validate_status_update = status_rules::of_autoscaler;
    let rules = Rules { defaults, on_create, validate, validate_status_update, ..Rules::NONE };
    let first = StoredAs {
        row: ("autoscaling".into(), "v2".into(), "horizontalpodautoscalers".into()),
        to_stored: Arc::new(to_stored),
        from_stored: Arc::new(from_stored),
    };
    let row = |version| {
        Row::namespaced("autoscaling", version, "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .category("all")
            .status()
    };
    let first_rules =
        Rules { defaults: |object| fill_minimum(object), on_create: begin, validate, ..Rules::NONE };
    vec![
        row("v1")
            .columns(columns(|object| targets(&to_stored(object.clone()))))
            .rules(first_rules)
            .stored_as(first)
            .done(),
        row("v2").columns(columns(targets)).rules(rules).done(),
    ]
}

fn columns(targets: fn(&Value) -> String) -> Vec<Column> {
    vec![
        name(),
        text("Reference", "What is scaled.", |object| {
            let target =
                |field: &str| fields::text(object, &format!("/spec/scaleTargetRef/{field}")).to_owned();
            format!("{}/{}", target("kind"), target("name"))
        }),
        text("Targets", "Load and the load aimed at.", targets),
        text("MinPods", "No fewer pods.", |object| {
            cells::int_or_text(object, "/spec/minReplicas", "<unset>")
        }),
        integer("MaxPods", "No more pods.", |object| fields::int(object, "/spec/maxReplicas").unwrap_or(0)),
        integer("Replicas", "Pods now.", |object| {
            fields::int(object, "/status/currentReplicas").unwrap_or(0)
        }),
        age(),
    ]
}

/// As many metrics as a cell shows before it says how many more there are.
const SHOWN: usize = 2;

fn targets(object: &Value) -> String {
    let metrics = fields::list(object, "/spec/metrics");
    let current = fields::list(object, "/status/currentMetrics");
    if metrics.is_empty() {
        return cells::NONE.to_owned();
    }
    let shown: Vec<String> =
        metrics.iter().take(SHOWN).enumerate().map(|(at, metric)| target(metric, current.get(at))).collect();
    match metrics.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

fn target(metric: &Value, current: Option<&Value>) -> String {
    let (source, what) = match fields::text(metric, "/type") {
        "Resource" => ("resource", fields::text(metric, "/resource/name")),
        "ContainerResource" => ("containerResource", fields::text(metric, "/containerResource/name")),
        "Pods" => ("pods", ""),
        "Object" => ("object", ""),
        "External" => ("external", ""),
        _ => return "<unknown type>".to_owned(),
    };
    let number = |from: Option<&Value>, part: &str, field: &str| {
        let pointer = format!("/{source}/{part}/{field}");
        from.map(|from| cells::int_or_text(from, &pointer, "")).filter(|text| !text.is_empty())
    };
    let unknown = || "<unknown>".to_owned();
    let prefix = if what.is_empty() { String::new() } else { format!("{what}: ") };
    if let Some(aim) = number(Some(metric), "target", "averageUtilization") {
        let now =
            number(current, "current", "averageUtilization").map_or_else(unknown, |now| format!("{now}%"));
        return format!("{prefix}{now}/{aim}%");
    }
    for (field, suffix) in [("averageValue", " (avg)"), ("value", "")] {
        if let Some(aim) = number(Some(metric), "target", field) {
            let now = number(current, "current", field).unwrap_or_else(unknown);
            let suffix = if matches!(source, "object" | "external") { suffix } else { "" };
            return format!("{prefix}{now}/{aim}{suffix}");
        }
    }
    format!("{prefix}{}/<auto>", unknown())
}

fn defaults(object: &mut Value) {
    fill_minimum(object);
    let Some(spec) = fields::child(object, "spec") else { return };
    if fields::list(spec, "/metrics").is_empty() {
        fields::set(spec, "metrics", json!([cpu_metric(80)]));
    }
    if let Some(behavior) = spec.pointer_mut("/behavior").filter(|behavior| behavior.is_object()) {
        fill_behavior(behavior);
    }
}

/// Where one direction is spoken of, both are completed: doubling or four pods at once up, everything at once down.
fn fill_behavior(behavior: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", json!([pods, percent])), ("scaleDown", json!([percent]))] {
        fields::fill(behavior, direction, json!({}));
        let Some(rules) = fields::child(behavior, direction) else { continue };
        fields::fill_text(rules, "selectPolicy", "Max");
        fields::fill(rules, "policies", policies);
        if direction == "scaleUp" {
            fields::fill_int(rules, "stabilizationWindowSeconds", 0);
        }
    }
}

fn fill_minimum(object: &mut Value) {
    if let Some(spec) = fields::child(object, "spec") {
        fields::fill(spec, "minReplicas", 1);
    }
}

fn cpu_metric(percent: i64) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// What version 1 says of one that nobody has looked at yet.
fn begin(object: &mut Value) {
    fields::set(object, "status", json!({"currentReplicas": 0, "desiredReplicas": 0}));
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", json!({"desiredReplicas": 0}));
}

fn validate(object: &Value, faults: &mut Faults) {
    validation::positive_or(object, "spec.minReplicas", "must be greater than or equal to 1", faults);
    let (least, most) = (
        fields::int(object, "/spec/minReplicas").unwrap_or(1),
        fields::int(object, "/spec/maxReplicas").unwrap_or(0),
    );
    if most < 1 {
        faults.invalid("spec.maxReplicas", &json!(most), "must be greater than 0");
    }
    if most < least {
        faults.invalid("spec.maxReplicas", &json!(most), "must be greater than or equal to `minReplicas`");
    }
    let target = object.pointer("/spec/scaleTargetRef").unwrap_or(&Value::Null);
    autoscaler_metrics::scaled(target, "spec.scaleTargetRef", faults);
    autoscaler_metrics::validate(object, faults);
    autoscaler_behavior::validate(object, faults);
}

/// The one metric of version 1 becomes a metric like any other.
fn to_stored(object: Value) -> Value {
    let mut object = object;
    fields::set(&mut object, "apiVersion", "autoscaling/v2".into());
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let percent = spec.remove("targetCPUUtilizationPercentage").and_then(|percent| percent.as_i64());
        spec.insert("metrics".to_owned(), json!([cpu_metric(percent.unwrap_or(80))]));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status.remove("currentCPUUtilizationPercentage")
    {
        let current = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}});
        status.insert("currentMetrics".to_owned(), json!([current]));
    }
    object
}

/// Version 1 shows of all metrics the load of the processors.
fn from_stored(object: Value) -> Value {
    let mut object = object;
    fields::set(&mut object, "apiVersion", "autoscaling/v1".into());
    let cpu = |metrics: &[Value], part: &str| {
        let metric = metrics.iter().find(|metric| fields::text(metric, "/resource/name") == "cpu")?;
        metric.pointer(&format!("/resource/{part}/averageUtilization")).cloned()
    };
    for (parent, list, part, single) in [
        ("spec", "metrics", "target", "targetCPUUtilizationPercentage"),
        ("status", "currentMetrics", "current", "currentCPUUtilizationPercentage"),
    ] {
        let Some(parent) = object.get_mut(parent) else { continue };
        let percent = cpu(fields::list(parent, &format!("/{list}")), part);
        if let Some(parent) = parent.as_object_mut() {
            parent.remove(list);
            parent.remove("behavior");
            if let Some(percent) = percent {
                parent.insert(single.to_owned(), percent);
            }
        }
    }
    // Version 2 leaves it out where nothing runs, clients of version 1 do without it in no object.
    if let Some(status) = object.get_mut("status") {
        fields::fill(status, "currentReplicas", 0);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_one_is_version_two_with_one_metric() {
        let first = json!({"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let second = to_stored(first.clone());
        assert_eq!(targets(&second), "cpu: <unknown>/50%");
        assert_eq!(from_stored(second), first);
    }
}
