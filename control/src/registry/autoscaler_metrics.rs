//! What an autoscaler scales and the loads it goes by: exactly the source that its type names, with a target that fits
//! the source.

use super::faults::Faults;
use super::{fields, resources, validation};
use knarr_api::names;
use serde_json::{Value, json};

/// Type and field of each source.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// Every fault of the object that is scaled.
pub(super) fn scaled(target: &Value, path: &str, faults: &mut Faults) {
    described(target, path, faults);
    let version = fields::text(target, "/apiVersion");
    let fault = match version.split('/').collect::<Vec<_>>().as_slice() {
        [_, _, _, ..] => format!("unexpected GroupVersion string: {version}"),
        [_] if fields::text(target, "/kind") != "ReplicationController" => {
            "apiVersion must specify API group".to_owned()
        }
        _ => return,
    };
    faults.invalid(format!("{path}.apiVersion"), &json!(version), &fault);
}

/// Every fault of the metrics.
pub(super) fn validate(autoscaler: &Value, faults: &mut Faults) {
    for (index, metric) in fields::list(autoscaler, "/spec/metrics").iter().enumerate() {
        metric_of(metric, &format!("spec.metrics[{index}]"), faults);
    }
}

fn metric_of(metric: &Value, path: &str, faults: &mut Faults) {
    let kind = fields::text(metric, "/type");
    let kind_field = format!("{path}.type");
    if kind.is_empty() {
        faults.required(kind_field.as_str(), "must specify a metric source type");
    }
    let wanted = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    // Kubernetes says it twice: of the type, and where it looks for the source that the type names.
    if wanted.is_none() {
        faults.not_supported(kind_field.as_str(), kind, &TYPES);
    }
    let given: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.get(field).is_some()).collect();
    if let Some((field, source)) = given.first().and_then(|field| Some((*field, metric.get(field)?))) {
        source_of(field, source, &format!("{path}.{field}"), faults);
    }
    match wanted {
        None => faults.not_supported(kind_field, kind, &TYPES),
        Some(wanted) if !given.contains(&wanted) => {
            let detail = "must populate information for the given metric source";
            faults.required(format!("{path}.{wanted}"), detail);
        }
        Some(_) => {}
    }
    if given.len() > 1 {
        for other in given.iter().filter(|field| Some(**field) != wanted) {
            faults.forbidden(format!("{path}.{other}"), "must populate the given metric source only");
        }
    }
}

fn source_of(kind: &str, source: &Value, path: &str, faults: &mut Faults) {
    match kind {
        "resource" | "containerResource" => {
            if fields::text(source, "/name").is_empty() {
                faults.required(format!("{path}.name"), "must specify a resource name");
            }
            if kind == "containerResource" && fields::text(source, "/container").is_empty() {
                faults.required(format!("{path}.container"), "must specify a container");
            }
        }
        "object" => {
            let object = source.get("describedObject").unwrap_or(&Value::Null);
            described(object, &format!("{path}.describedObject"), faults);
            identifier(source, path, faults);
        }
        _ => identifier(source, path, faults),
    }
    target(source.get("target").unwrap_or(&Value::Null), kind, &format!("{path}.target"), faults);
}

fn described(reference: &Value, path: &str, faults: &mut Faults) {
    for field in ["kind", "name"] {
        let text = fields::text(reference, &format!("/{field}"));
        validation::required_name(&format!("{path}.{field}"), text, names::path_segment, faults);
    }
}

fn identifier(source: &Value, path: &str, faults: &mut Faults) {
    let field = format!("{path}.metric.name");
    match fields::text(source, "/metric/name") {
        "" => faults.required(field, "must specify a metric name"),
        name => validation::named(&field, name, names::path_segment, faults),
    }
}

fn target(target: &Value, kind: &str, path: &str, faults: &mut Faults) {
    match fields::text(target, "/type") {
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            if other.is_empty() {
                faults.required(format!("{path}.type"), "must specify a metric target type");
            }
            let detail = "must be either Utilization, Value, or AverageValue";
            faults.invalid(format!("{path}.type"), &json!(other), detail);
        }
    }
    for field in ["value", "averageValue"] {
        let amount = target.get(field).and_then(resources::parse);
        if let Some(amount) = amount.filter(|amount| amount.is_negative() || amount.is_zero()) {
            faults.invalid(format!("{path}.{field}"), &json!(amount.to_string()), "must be positive");
        }
    }
    if let Some(percent) = fields::int(target, "/averageUtilization").filter(|percent| *percent < 1) {
        faults.invalid(format!("{path}.averageUtilization"), &json!(percent), "must be greater than 0");
    }
    combination(target, kind, path, faults);
}

/// One way to say how much, out of those that the source knows.
fn combination(target: &Value, kind: &str, path: &str, faults: &mut Faults) {
    let given = |field: &str| target.get(field).is_some_and(|value| !value.is_null());
    let average = format!("{path}.averageValue");
    match kind {
        "resource" | "containerResource" => match (given("averageUtilization"), given("averageValue")) {
            (true, true) => {
                faults.forbidden(average, "may not set both a target raw value and a target utilization");
            }
            (false, false) => faults.required(
                format!("{path}.averageUtilization"),
                "must set either a target raw value or a target utilization",
            ),
            _ => {}
        },
        "pods" if !given("averageValue") => {
            faults.required(average, "must specify a positive target averageValue");
        }
        "object" if !given("value") && !given("averageValue") => {
            faults.required(average, "must set either a target value or averageValue");
        }
        "external" => match (given("value"), given("averageValue")) {
            (true, true) => faults.forbidden(
                format!("{path}.value"),
                "may not set both a target value for metric and a per-pod target",
            ),
            (false, false) => {
                faults.required(average, "must set either a target value for metric or a per-pod target");
            }
            _ => {}
        },
        _ => {}
    }
}
