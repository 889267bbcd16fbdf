//! Limit ranges: what pods of a namespace get when they do not say, and may not exceed.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, resource_names, resources, validation};
use knarr_api::{names, quantity::Quantity};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
const AMOUNTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "LimitRange", "limitranges")
        .short(&["limits"])
        .columns(vec![name(), created_at()])
        .rules(Rules { defaults, validate, ..Rules::NONE })
        .done()
}

/// A limit that is not given is the largest one allowed, a request that is not given is the limit, else the smallest.
fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    for item in fields::each(spec, "limits").filter(|item| fields::text(item, "/type") == "Container") {
        for (field, sources) in [("default", ["max", ""]), ("defaultRequest", ["default", "min"])] {
            for source in sources {
                let given = item.get(source).and_then(Value::as_object).cloned().unwrap_or_default();
                let Some(target) = fields::child(item, field) else { continue };
                for (name, amount) in given {
                    fields::fill(target, &name, amount);
                }
            }
        }
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, limit) in fields::list(object, "/spec/limits").iter().enumerate() {
        let path = format!("spec.limits[{index}]");
        let kind = fields::text(limit, "/type");
        kind_of(kind, &format!("{path}.type"), faults);
        if !seen.insert(kind) {
            faults.duplicate(format!("{path}.type"), &json!(kind));
        }
        amounts(limit, kind, &path, faults);
        let bounds = ["min", "max"].iter().any(|bound| amount(limit, bound, "storage").is_some());
        if kind == "PersistentVolumeClaim" && !bounds {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            faults.required(format!("{path}.limits"), detail);
        }
        let amounts = AMOUNTS.iter().filter_map(|which| limit.get(which)?.as_object());
        let resources: BTreeSet<&String> = amounts.flat_map(|amounts| amounts.keys()).collect();
        for resource in resources {
            order(limit, resource, &path, faults);
        }
    }
}

fn kind_of(kind: &str, field: &str, faults: &mut Faults) {
    validation::named(field, kind, names::qualified_name, faults);
    let plain = names::qualified_name(kind).is_empty() && !kind.contains('/');
    if plain && !TYPES.contains(&kind) {
        faults.invalid(field, &json!(kind), "must be a standard limit type or fully qualified");
    }
}

/// The resource of every amount; Kubernetes takes any amount here.
fn amounts(limit: &Value, kind: &str, path: &str, faults: &mut Faults) {
    for which in AMOUNTS {
        let given = fields::pairs(limit, &format!("/{which}")).next().is_some();
        if kind == "Pod" && which.starts_with("default") {
            if given {
                faults.forbidden(format!("{path}.{which}"), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (resource, _) in fields::pairs(limit, &format!("/{which}")) {
            let field = format!("{path}.{which}[{resource}]");
            match kind {
                "Pod" | "Container" => resource_names::of_container(&field, resource, faults),
                _ => resource_names::any(&field, resource, faults),
            }
        }
    }
}

fn amount(limit: &Value, which: &str, resource: &str) -> Option<Quantity> {
    limit.get(which)?.get(resource).and_then(resources::parse)
}

/// The amounts of one resource among each other: smallest, request, limit, largest.
fn order(limit: &Value, resource: &str, path: &str, faults: &mut Faults) {
    let of = |which: &str| amount(limit, which, resource);
    let (least, most) = (of("min"), of("max"));
    let (request, default) = (of("defaultRequest"), of("default"));
    let rules = [
        ("min", &least, &least, &most, "min value {} is greater than max value {}"),
        (
            "defaultRequest",
            &request,
            &least,
            &request,
            "min value {} is greater than default request value {}",
        ),
        (
            "defaultRequest",
            &request,
            &request,
            &most,
            "default request value {} is greater than max value {}",
        ),
        (
            "defaultRequest",
            &request,
            &request,
            &default,
            "default request value {} is greater than default limit value {}",
        ),
        ("default", &least, &least, &default, "min value {} is greater than default value {}"),
        ("default", &most, &default, &most, "default value {} is greater than max value {}"),
    ];
    for (which, shown, smaller, larger, words) in rules {
        if let (Some(shown), Some(smaller), Some(larger)) = (shown, smaller, larger)
            && smaller > larger
        {
            let detail = words.replacen("{}", &smaller.to_string(), 1).replacen("{}", &larger.to_string(), 1);
            faults.invalid(format!("{path}.{which}[{resource}]"), &json!(shown.to_string()), &detail);
        }
    }
    if let Some(ratio) = of("maxLimitRequestRatio") {
        let field = format!("{path}.maxLimitRequestRatio[{resource}]");
        ratio_of(&ratio, least.as_ref(), most.as_ref(), &field, faults);
    }
    if let (Some(request), Some(default)) = (&request, &default)
        && request != default
        && !resource_names::may_be_overcommitted(resource)
    {
        let detail =
            format!("default value {default} must equal to defaultRequest value {request} in {resource}");
        faults.invalid(format!("{path}.defaultRequest[{resource}]"), &json!(request.to_string()), &detail);
    }
}

fn ratio_of(
    ratio: &Quantity,
    least: Option<&Quantity>,
    most: Option<&Quantity>,
    field: &str,
    faults: &mut Faults,
) {
    let shown = json!(ratio.to_string());
    if ratio.milli() < 1000 {
        faults.invalid(field, &shown, &format!("ratio {ratio} is less than 1"));
    }
    if let (Some(least), Some(most)) = (least.filter(|least| !least.is_zero()), most) {
        let widest = most.milli() as f64 / least.milli() as f64;
        if ratio.milli() as f64 / 1000.0 > widest {
            faults.invalid(field, &shown, &format!("ratio {ratio} is greater than max/min = {widest:.6}"));
        }
    }
}
