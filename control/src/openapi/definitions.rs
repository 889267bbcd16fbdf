//! The schemas of a document: the generated ones, completed with what they lack.

use crate::registry::Resource;
use crate::schema::kinds::{self, Kind, REFERENCE};
use crate::schema::{fact, is_atomic};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Which definitions are kinds, and of which group versions.
#[derive(Debug, Default)]
pub(super) struct Names {
    kinds: BTreeMap<String, Vec<Value>>,
}

impl Names {
    /// The definitions of these kinds.
    pub(super) fn of(kinds: &[&Kind]) -> Names {
        let mut names = Names::default();
        for kind in kinds {
            let group = if kind.group == "meta.k8s.io" { "" } else { kind.group };
            names.kinds.entry(kind.type_name()).or_default().push(kind_entry(group, kind.version, kind.kind));
        }
        names
    }
}

/// The name of the definition of a row's kind.
pub(super) fn definition_name(group: &str, version: &str, kind: &str) -> String {
    match kinds::find(group, version, kind) {
        Some(known) => known.type_name(),
        None => {
            let reversed: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", reversed.join("."))
        }
    }
}

/// A generated definition as Kubernetes publishes it.
pub(super) fn publish(name: &str, schema: Value, names: &Names) -> Value {
    let description = schema.get("description").cloned().unwrap_or_default();
    match name.rsplit('.').next() {
        Some("Quantity") => {
            return json!({"description": description, "oneOf": [{"type": "string"}, {"type": "number"}]});
        }
        Some("IntOrString") => {
            return json!({
                "description": description, "format": "int-or-string",
                "oneOf": [{"type": "integer"}, {"type": "string"}],
            });
        }
        _ => {}
    }
    let mut schema = schema;
    // Rust's types always have metadata; clients may leave it out.
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            schema.as_object_mut().map(|schema| schema.remove("required"));
        }
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, property) in properties {
            complete(name, field, property);
        }
    }
    if is_atomic(name) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some(kinds) = names.kinds.get(name) {
        schema["x-kubernetes-group-version-kind"] = kinds.clone().into();
    }
    schema
}

/// Adds the facts of one field. A reference cannot have siblings in OpenAPI 3.0, so it moves into `allOf`.
fn complete(owner: &str, field: &str, property: &mut Value) {
    let Value::Object(map) = property else { return };
    if map.contains_key("$ref")
        && map.len() > 1
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    let Some(fact) = fact(owner, field) else { return };
    let mut set = |name: &str, value: Value| map.insert(format!("x-kubernetes-{name}"), value);
    if !fact.patch_strategy.is_empty() {
        set("patch-strategy", fact.patch_strategy.into());
    }
    if !fact.merge_key.is_empty() {
        set("patch-merge-key", fact.merge_key.into());
    }
    let is_list = map.get("type").is_some_and(|kind| kind == "array");
    let mut set = |name: &str, value: Value| map.insert(format!("x-kubernetes-{name}"), value);
    match (fact.list_type, is_list) {
        ("", _) => {}
        (kind, true) => {
            set("list-type", kind.into());
        }
        (kind, false) => {
            set("map-type", kind.into());
        }
    }
    if !fact.map_keys.is_empty() {
        set("list-map-keys", fact.map_keys.split(',').collect::<Vec<_>>().into());
    }
}

/// The definition of a custom resource: what its author gave, with the metadata of every object.
pub(super) fn custom(row: &Resource, written: &BTreeSet<String>) -> Option<(String, Value)> {
    let name = definition_name(&row.group, &row.version, &row.kind);
    if written.contains(&name) {
        return None;
    }
    let mut schema =
        row.schema.as_ref().map_or_else(|| json!({"type": "object"}), |schema| Value::clone(schema));
    schema["x-kubernetes-group-version-kind"] = json!([kind_entry(&row.group, &row.version, &row.kind)]);
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = json!({"type": "string", "description": "APIVersion defines which group and version this object is of."});
    schema["properties"]["kind"] = json!({"type": "string", "description": "Kind of this object."});
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    if written.contains(meta) {
        schema["properties"]["metadata"] = json!({
            "allOf": [{"$ref": format!("{REFERENCE}{meta}")}], "description": "Standard object's metadata.",
        });
    }
    Some((name, schema))
}

/// The list of a row's kind.
pub(super) fn list(row: &Resource) -> Option<(String, Value)> {
    if !row.allows("list") {
        return None;
    }
    let item = definition_name(&row.group, &row.version, &row.kind);
    let list = json!({
        "description": format!("{0}List is a list of {0} objects.", row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Group and version of this list."},
            "items": {
                "type": "array", "items": {"$ref": format!("{REFERENCE}{item}")},
                "description": format!("List of {}.", row.plural),
            },
            "kind": {"type": "string", "description": "Kind of this list."},
            "metadata": {
                "type": "object", "description": "Metadata of the list.",
                "properties": {
                    "continue": {"type": "string"},
                    "remainingItemCount": {"type": "integer", "format": "int64"},
                    "resourceVersion": {"type": "string"},
                },
            },
        },
        "x-kubernetes-group-version-kind": [kind_entry(&row.group, &row.version, &format!("{}List", row.kind))],
    });
    Some((format!("{item}List"), list))
}

fn kind_entry(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}
