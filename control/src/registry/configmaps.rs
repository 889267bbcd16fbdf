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

/// What all values of one object may hold, bytes; of secrets too.
const MAX_SIZE: usize = 1 << 20;

/// The fault of an object whose values are longer together than they may be.
pub(super) fn limit_size(field: &str, values: impl Iterator<Item = usize>, faults: &mut Faults) {
    if values.sum::<usize>() > MAX_SIZE {
        faults.too_long(field, MAX_SIZE);
    }
}

/// The length of what a base64 text stands for.
pub(super) fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn validate(object: &Value, faults: &mut Faults) {
    let plain = fields::pairs(object, "/data").map(|(_, value)| value.as_str().map_or(0, str::len));
    let binary = fields::pairs(object, "/binaryData").map(|(_, value)| decoded_length(value));
    limit_size("[]", plain.chain(binary), faults);
    for part in ["data", "binaryData"] {
        for (key, _) in fields::pairs(object, &format!("/{part}")) {
            super::validation::config_key(&format!("{part}[{key}]"), key, faults);
        }
    }
    for (key, _) in fields::pairs(object, "/binaryData") {
        if object.pointer("/data").is_some_and(|data| data.get(key).is_some()) {
            faults.invalid(format!("data[{key}]"), &key.into(), "duplicate of key present in binaryData");
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
