//! Terms that choose nodes, by labels and by name; in pods, volumes and storage classes.

use super::faults::Faults;
use super::{fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

/// Every fault of a node selector, of which at least one term must be fulfilled.
pub(super) fn selector(selector: &Value, path: &str, faults: &mut Faults) {
    let terms = fields::list(selector, "/nodeSelectorTerms");
    if terms.is_empty() {
        faults.required(format!("{path}.nodeSelectorTerms"), "must have at least one node selector term");
    }
    for (index, found) in terms.iter().enumerate() {
        term(found, &format!("{path}.nodeSelectorTerms[{index}]"), faults);
    }
}

/// Every fault of one term.
pub(super) fn term(term: &Value, path: &str, faults: &mut Faults) {
    for (index, found) in fields::list(term, "/matchExpressions").iter().enumerate() {
        expression(found, &format!("{path}.matchExpressions[{index}]"), faults);
    }
    for (index, found) in fields::list(term, "/matchFields").iter().enumerate() {
        field_of(found, &format!("{path}.matchFields[{index}]"), faults);
    }
}

fn expression(expression: &Value, path: &str, faults: &mut Faults) {
    let values = fields::list(expression, "/values");
    let field = format!("{path}.values");
    match fields::text(expression, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            faults.required(field.as_str(), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            faults.forbidden(field.as_str(), detail);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            faults.required(field.as_str(), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => faults.invalid(format!("{path}.operator"), &json!(other), "not a valid selector operator"),
    }
    let key = fields::text(expression, "/key");
    validation::named(&format!("{path}.key"), key, names::qualified_name, faults);
}

fn field_of(requirement: &Value, path: &str, faults: &mut Faults) {
    let values = fields::list(requirement, "/values");
    match fields::text(requirement, "/operator") {
        "In" | "NotIn" if values.len() != 1 => faults.required(
            format!("{path}.values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => faults.invalid(format!("{path}.operator"), &json!(other), "not a valid selector operator"),
    }
    match fields::text(requirement, "/key") {
        "metadata.name" => {
            for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                validation::named(
                    &format!("{path}.values[{index}]"),
                    value,
                    names::dns1123_subdomain,
                    faults,
                );
            }
        }
        other => faults.invalid(format!("{path}.key"), &json!(other), "not a valid field selector key"),
    }
}
