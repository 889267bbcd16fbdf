//! ConfigMaps: configuration data of pods.

use super::columns::{age, integer, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns(vec![
            name(),
            integer("Data", "Number of keys.", |object| {
                (fields::pairs(object, "/data").count() + fields::pairs(object, "/binaryData").count()) as i64
            }),
            age(),
        ])
        .rules(Rules { validate, validate_update: keep_immutable, ..Rules::NONE })
        .done()
}

fn validate(object: &Value, faults: &mut Faults) {
    for part in ["data", "binaryData"] {
        for (key, _) in fields::pairs(object, &format!("/{part}")) {
            super::validation::config_key(&format!("{part}[{key}]"), key, faults);
        }
    }
    for (key, value) in fields::pairs(object, "/binaryData") {
        if object.pointer("/data").is_some_and(|data| data.get(key).is_some()) {
            faults.invalid(format!("data[{key}]"), value, "duplicate of key present in binaryData");
        }
    }
}

/// What `immutable: true` protects, here and for secrets.
pub(super) fn keep_immutable(new: &Value, old: &Value, faults: &mut Faults) {
    if !fields::flag(old, "/immutable") {
        return;
    }
    if !fields::flag(new, "/immutable") {
        faults.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for part in ["data", "binaryData"] {
        if new.get(part) != old.get(part) {
            faults.forbidden(part, "field is immutable when `immutable` is set");
        }
    }
}
