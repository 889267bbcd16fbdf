//! Resource quotas: how much a namespace may use.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, amount_status_rules, faults::Faults, fields, quota_scopes, resource_names, resources};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "ResourceQuota", "resourcequotas")
        .short(&["quota"])
        .status()
        .columns(vec![
            name(),
            text("Request", "Used of what may be requested.", |quota| usage(quota, false)),
            text("Limit", "Used of what limits may sum up to.", |quota| usage(quota, true)),
            age(),
        ])
        .rules(Rules {
            validate,
            validate_update,
            validate_status_update: amount_status_rules::of_quota,
            ..Rules::NONE
        })
        .done()
}

fn usage(quota: &Value, limits: bool) -> String {
    let mut entries: Vec<(&str, String)> = fields::pairs(quota, "/status/hard")
        .filter(|(name, _)| name.starts_with("limits") == limits)
        .map(|(name, hard)| {
            let used = quota.pointer("/status/used").and_then(|used| used.get(name)).and_then(Value::as_str);
            (name, format!("{name}: {}/{}", used.unwrap_or("0"), hard.as_str().unwrap_or_default()))
        })
        .collect();
    entries.sort();
    entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>().join(", ")
}

fn validate(quota: &Value, faults: &mut Faults) {
    for (name, amount) in fields::pairs(quota, "/spec/hard") {
        let field = format!("spec.hard[{name}]");
        resource_names::of_quota(&field, name, faults);
        resources::amount_of(&field, name, amount, faults);
    }
    quota_scopes::validate(quota, faults);
}

/// The scopes as a set: their order says nothing.
fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let scopes = |quota: &Value| -> BTreeSet<String> {
        fields::list(quota, "/spec/scopes").iter().map(Value::to_string).collect()
    };
    if scopes(new) != scopes(old) {
        faults.immutable("spec.scopes", new.pointer("/spec/scopes").unwrap_or(&Value::Null));
    }
}
