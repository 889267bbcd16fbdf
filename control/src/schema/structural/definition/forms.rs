//! What a part of a schema may not say at all, and what its Kubernetes extensions must agree on.

use crate::registry::faults::Faults;
use crate::registry::fields;
use serde_json::{Value, json};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Forms of JSON Schema that OpenAPI has not, with the words about each.
const FOREIGN: [(&str, &str); 5] = [
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
];
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const OPEN: &str = "x-kubernetes-preserve-unknown-fields";
const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_TYPE: &str = "x-kubernetes-map-type";

/// Whether a field of a schema is set.
pub(super) fn is(schema: &Value, field: &str) -> bool {
    schema.get(field) == Some(&Value::Bool(true))
}

fn text<'a>(schema: &'a Value, field: &str) -> &'a str {
    schema.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Every fault of the forms of a schema, also of one that only narrows another.
pub(super) fn allowed(schema: &Value, path: &str, faults: &mut Faults) {
    let place = format!("{path}.type");
    match text(schema, "type") {
        "" => {}
        "null" => {
            faults.not_supported(place.as_str(), "null", &TYPES);
            faults.forbidden(place, "type cannot be set to null, use nullable as an alternative");
        }
        known if TYPES.contains(&known) => {}
        other => faults.not_supported(place, other, &TYPES),
    }
    for (field, detail) in FOREIGN {
        if schema.get(field).is_some_and(|value| !is_nothing(value)) {
            faults.forbidden(format!("{path}.{field}"), detail);
        }
    }
    if schema.get("$ref").is_some_and(|value| !value.is_null()) {
        faults.forbidden(format!("{path}.$ref"), "$ref is not supported");
    }
    if schema.get("items").is_some_and(Value::is_array) {
        faults.forbidden(format!("{path}.items"), "items must be a schema object and not an array");
    }
    if is(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        faults.forbidden(format!("{path}.uniqueItems"), detail);
    }
    let named = fields::pairs(schema, "/properties").next().is_some();
    let others = schema.get("additionalProperties").filter(|others| named && **others != Value::Bool(true));
    if others.is_some_and(|others| !others.is_null()) {
        let detail = "additionalProperties and properties are mutual exclusive";
        faults.forbidden(format!("{path}.additionalProperties"), detail);
    }
    if schema.get(OPEN) == Some(&Value::Bool(false)) {
        faults.invalid(format!("{path}.{OPEN}"), &json!(false), "must be true or undefined");
    }
    map_type(schema, path, faults);
    set_items(schema, path, faults);
}

/// Absent in Go, where nothing and empty are the same.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn map_type(schema: &Value, path: &str, faults: &mut Faults) {
    let Some(map) = schema.get(MAP_TYPE).and_then(Value::as_str) else { return };
    must_be(schema, "object", &format!("if {MAP_TYPE} is specified"), path, faults);
    if !matches!(map, "atomic" | "granular") {
        faults.not_supported(format!("{path}.{MAP_TYPE}"), map, &["atomic", "granular"]);
    }
}

/// The type that an extension asks for.
pub(super) fn must_be(schema: &Value, wanted: &str, when: &str, path: &str, faults: &mut Faults) {
    let (found, place) = (text(schema, "type"), format!("{path}.type"));
    match found {
        found if found == wanted => {}
        "" => faults.required(place, &format!("must be {wanted} {when}")),
        other => faults.invalid(place, &json!(other), &format!("must be {wanted} {when}")),
    }
}

/// Elements of a set are compared as wholes, so they have to be owned as wholes.
fn set_items(schema: &Value, path: &str, faults: &mut Faults) {
    if text(schema, LIST_TYPE) != "set" || text(schema, "type") != "array" {
        return;
    }
    let Some(items) = schema.get("items") else { return };
    let kind = items.get(LIST_TYPE).and_then(Value::as_str);
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match text(items, "type") {
        "array" if kind.is_some_and(|kind| kind != "atomic") => {
            faults.invalid(format!("{path}.items.{LIST_TYPE}"), &json!(kind), detail);
        }
        "object" if text(items, MAP_TYPE) != "atomic" => {
            faults.invalid(format!("{path}.items.{MAP_TYPE}"), &json!(kind), detail);
        }
        _ => {}
    }
}

/// Every fault of what the extensions of a describing schema say together.
pub(super) fn extensions(schema: &Value, path: &str, faults: &mut Faults) {
    if is(schema, INT_OR_STRING) {
        for field in [OPEN, EMBEDDED].into_iter().filter(|field| is(schema, field)) {
            let detail = format!("must be false if {INT_OR_STRING} is true");
            faults.invalid(format!("{path}.{field}"), &json!(true), &detail);
        }
    }
    if !is(schema, EMBEDDED) {
        return;
    }
    must_be(schema, "object", &format!("if {EMBEDDED} is true"), path, faults);
    if schema.get("additionalProperties").is_some_and(|others| !others.is_null()) {
        let detail = format!("must not be used if {EMBEDDED} is set");
        faults.forbidden(format!("{path}.additionalProperties"), &detail);
    }
    if !is(schema, OPEN) && fields::pairs(schema, "/properties").next().is_none() {
        let detail = format!("must not be empty if {EMBEDDED} is true without {OPEN}");
        faults.required(format!("{path}.properties"), &detail);
    }
}

/// What every object has is known without a schema, which may narrow its names alone.
pub(super) fn resource(schema: &Value, root: bool, path: &str, faults: &mut Faults) {
    if !root && !is(schema, EMBEDDED) {
        return;
    }
    let field =
        |name: &str| Some((schema.get("properties")?.get(name)?, format!("{path}.properties[{name}]")));
    for (field, path) in ["kind", "apiVersion"].into_iter().filter_map(field) {
        let kind = text(field, "type");
        if kind != "string" {
            faults.invalid(format!("{path}.type"), &json!(kind), "must be string");
        }
    }
    let Some((metadata, path)) = field("metadata") else { return };
    let kind = text(metadata, "type");
    if kind != "object" {
        faults.invalid(format!("{path}.type"), &json!(kind), "must be object");
    }
    let named =
        fields::pairs(metadata, "/properties").all(|(name, _)| matches!(name, "name" | "generateName"));
    let plain = |name: &String| {
        matches!(name.as_str(), "type" | "properties" | "default" | "externalDocs" | "example")
    };
    let all_plain = metadata.as_object().is_some_and(|map| map.keys().all(plain));
    if root && !(named && all_plain) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        faults.forbidden(path, detail);
    }
}
