//! Requests and limits: quantities that are not negative, and no more asked for than allowed.

use super::faults::Faults;
use super::{fields, validation};
use knarr_api::quantity::Quantity;
use serde_json::{Value, json};

/// Every fault of a `resources` field.
pub(super) fn validate(resources: Option<&Value>, path: &str, faults: &mut Faults) {
    let Some(resources) = resources else { return };
    for which in ["limits", "requests"] {
        for (name, amount) in fields::pairs(resources, &format!("/{which}")) {
            let field = format!("{path}.{which}[{name}]");
            validation::named(&field, name, knarr_api::names::qualified_name, faults);
            amount_of(&field, name, amount, faults);
        }
    }
    for (name, request) in fields::pairs(resources, "/requests") {
        let Some(limit) = resources.pointer("/limits").and_then(|limits| limits.get(name)) else { continue };
        let (Some(asked), Some(allowed)) = (parse(request), parse(limit)) else { continue };
        if asked > allowed {
            let detail = format!("must be less than or equal to {name} limit of {allowed}");
            faults.invalid(format!("{path}.requests"), &json!(asked.to_string()), &detail);
        }
    }
}

/// One quantity of a named resource.
pub(super) fn amount_of(field: &str, name: &str, amount: &Value, faults: &mut Faults) {
    let Some(quantity) = parse(amount) else { return };
    if quantity.is_negative() {
        faults.invalid(field, &json!(quantity.to_string()), "must be greater than or equal to 0");
    }
    let countable =
        matches!(name, "pods" | "services" | "replicationcontrollers" | "resourcequotas" | "secrets");
    if countable && !quantity.is_whole() {
        faults.invalid(field, &json!(quantity.to_string()), "must be an integer");
    }
}

/// A quantity written as text or as a number.
pub(super) fn parse(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}
