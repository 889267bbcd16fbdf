//! Priority classes: which pods make room for which.

use super::columns::{age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use serde_json::{Value, json};

/// What users may give; higher ones belong to the system.
const HIGHEST: i64 = 1_000_000_000;

pub(super) fn row() -> Resource {
    Row::cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .short(&["pc"])
        .columns(vec![
            name(),
            integer("Value", "The priority.", |class| fields::int(class, "/value").unwrap_or(0)),
            text("Global-Default", "Whether pods without a class have it.", |class| {
                fields::flag(class, "/globalDefault").to_string()
            }),
            age(),
            text("PreemptionPolicy", "Whether its pods drive others away.", |class| {
                fields::text(class, "/preemptionPolicy").to_owned()
            }),
        ])
        .rules(Rules { has_generation: true, defaults, validate, validate_update, ..Rules::NONE })
        .done()
}

fn defaults(class: &mut Value) {
    fields::fill_text(class, "preemptionPolicy", "PreemptLowerPriority");
    fields::fill(class, "value", 0);
}

fn validate(class: &Value, faults: &mut Faults) {
    let (name, value) = (fields::text(class, "/metadata/name"), fields::int(class, "/value").unwrap_or(0));
    let of_system = matches!(name, "system-node-critical" | "system-cluster-critical");
    if name.starts_with("system-") && !of_system {
        faults.forbidden(
            "metadata.name",
            &format!("priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"),
        );
    } else if value > HIGHEST && !of_system {
        faults.forbidden("value", &format!("maximum allowed value of a user defined priority is {HIGHEST}"));
    }
    validation::one_of(class, "preemptionPolicy", &["PreemptLowerPriority", "Never"], faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    if new.get("value") != old.get("value") {
        faults.forbidden("value", "may not be changed in an update.");
    }
    if new.get("preemptionPolicy") != old.get("preemptionPolicy") {
        faults.invalid("preemptionPolicy", &json!(new["preemptionPolicy"]), "field is immutable");
    }
}
