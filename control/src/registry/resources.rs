//! Requests and limits: quantities that are not negative, and no more asked for than allowed.

use super::faults::Faults;
use super::{fields, resource_names};
use knarr_api::quantity::Quantity;
use serde_json::{Value, json};

/// Every fault of the `resources` of a container.
pub(super) fn validate(resources: Option<&Value>, path: &str, faults: &mut Faults) {
    validate_named(resources, path, resource_names::of_container, faults);
}

/// Every fault of a `resources` field that may name what `known` lets through.
pub(super) fn validate_named(
    resources: Option<&Value>,
    path: &str,
    known: fn(&str, &str, &mut Faults),
    faults: &mut Faults,
) {
    let Some(resources) = resources else { return };
    for which in ["limits", "requests"] {
        for (name, amount) in fields::pairs(resources, &format!("/{which}")) {
            let field = format!("{path}.{which}[{name}]");
            known(&field, name, faults);
            amount_of(&field, name, amount, faults);
            whole_pages(&field, name, amount, faults);
        }
    }
    for (name, request) in fields::pairs(resources, "/requests") {
        let limit = resources.pointer("/limits").and_then(|limits| limits.get(name)).and_then(parse);
        let elastic = resource_names::may_be_overcommitted(name);
        let (Some(asked), Some(allowed)) = (parse(request), &limit) else {
            if !elastic {
                let detail = "Limit must be set for non overcommitable resources";
                faults.required(format!("{path}.limits"), detail);
            }
            continue;
        };
        let relation = match elastic {
            true if asked > *allowed => "less than or equal",
            false if asked != *allowed => "equal",
            _ => continue,
        };
        let detail = format!("must be {relation} to {name} limit of {allowed}");
        faults.invalid(format!("{path}.requests"), &json!(asked.to_string()), &detail);
    }
    let asks = |test: fn(&str) -> bool| {
        let named = |which: &str| fields::pairs(resources, which).any(|(name, _)| test(name));
        named("/limits") || named("/requests")
    };
    if asks(|name| name.starts_with("hugepages-")) && !asks(|name| matches!(name, "cpu" | "memory")) {
        faults.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Huge pages are had whole.
fn whole_pages(field: &str, name: &str, amount: &Value, faults: &mut Faults) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let Some(amount) = parse(amount) else { return };
    let size = size.parse::<Quantity>().map(|size| size.units()).unwrap_or(0);
    if size <= 0 || amount.units() % size != 0 {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        faults.invalid(field, &json!(amount.to_string()), &detail);
    }
}

/// One quantity of a named resource.
pub(super) fn amount_of(field: &str, name: &str, amount: &Value, faults: &mut Faults) {
    let Some(quantity) = parse(amount) else { return };
    if quantity.is_negative() {
        faults.invalid(field, &json!(quantity.to_string()), "must be greater than or equal to 0");
    }

    if resource_names::is_counted(name) && !quantity.is_whole() {
        faults.invalid(field, &json!(quantity.to_string()), "must be an integer");
    }
}

/// An amount of storage: there is no volume of nothing.
pub(super) fn more_than_nothing(field: &str, amount: &Value, faults: &mut Faults) {
    if let Some(amount) = parse(amount).filter(|amount| amount.is_zero() || amount.is_negative()) {
        faults.invalid(field, &json!(amount.to_string()), "must be greater than zero");
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
