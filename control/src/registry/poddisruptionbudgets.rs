//! Pod disruption budgets: how many pods may be missing while nodes are emptied.

use super::columns::{age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, status_rules, validation};
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .columns(vec![
            name(),
            text("Min Available", "Pods that must stay.", |object| {
                cells::int_or_text(object, "/spec/minAvailable", "N/A")
            }),
            text("Max Unavailable", "Pods that may be missing.", |object| {
                cells::int_or_text(object, "/spec/maxUnavailable", "N/A")
            }),
            integer("Allowed Disruptions", "Pods that may go now.", |object| {
                fields::int(object, "/status/disruptionsAllowed").unwrap_or(0)
            }),
            age(),
        ])
        .rules(Rules {
            has_generation: true,
            on_create,
            validate,
            validate_status_update: status_rules::of_budget,
            ..Rules::NONE
        })
        .done()
}

fn on_create(object: &mut Value) {
    let zero = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    fields::set(object, "status", zero);
}

fn validate(object: &Value, faults: &mut Faults) {
    if object.pointer("/spec/minAvailable").is_some() && object.pointer("/spec/maxUnavailable").is_some() {
        let part = |field: &str| object.pointer(&format!("/spec/{field}")).unwrap_or(&Value::Null);
        // The words of Kubernetes hold its inner form of the object.
        let spec = json!({
            "MinAvailable": part("minAvailable"), "Selector": part("selector"),
            "MaxUnavailable": part("maxUnavailable"),
            "UnhealthyPodEvictionPolicy": part("unhealthyPodEvictionPolicy"),
        });
        faults.invalid("spec", &spec, "minAvailable and maxUnavailable cannot be both set");
    }
    validation::int_or_part(object, "spec.minAvailable", faults);
    validation::int_or_part(object, "spec.maxUnavailable", faults);
    let eviction = fields::text(object, "/spec/unhealthyPodEvictionPolicy");
    let known = ["AlwaysAllow", "IfHealthyBudget"];
    validation::optional_choice("spec.unhealthyPodEvictionPolicy", eviction, &known, faults);
    if let Some(selector) = object.pointer("/spec/selector") {
        validation::label_selector(selector, "spec.selector", faults);
    }
}
