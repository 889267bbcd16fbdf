//! Structural schemas: what the author of a custom resource says about its objects, as the definition has it.
//!
//! Unknown fields are pruned unless the schema preserves them, defaults are filled in, everything else is checked
//! (`validate.rs`). The schema is walked as the JSON that it is.

mod correlation;
pub(crate) mod definition;
pub(crate) mod formats;
pub(crate) mod ownership;
pub(crate) mod rules;
pub(crate) mod validate;

use serde_json::{Map, Value};

/// Fields of every object, whatever its schema says.
const OBJECT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Nesting that is followed; the encoded schema and object bound it long before.
const DEEPEST: usize = 128;

/// Removes what the schema does not know; gives `unknown field "spec.foo"` for each.
pub(crate) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(
        schema,
        object,
        &mut Path { text: String::new(), whole_object: true, depth: 0 },
        &mut unknown,
    );
    unknown
}

/// Shows each object's metadata, and where it is, that the schema embeds below `path`.
pub(crate) fn each_embedded(
    schema: &Value,
    value: &mut Value,
    path: &str,
    depth: usize,
    visit: &mut dyn FnMut(&str, &mut Value),
) {
    if depth > DEEPEST {
        return;
    }
    if let (true, Some(metadata)) = (embeds_object(schema), value.get_mut("metadata")) {
        visit(&format!("{path}.metadata"), metadata);
    }
    match value {
        Value::Object(map) => {
            for (name, inner) in map.iter_mut() {
                let Some(schema) = field_schema(schema, name) else { continue };
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                each_embedded(schema, inner, &path, depth + 1, visit);
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter_mut().enumerate() {
                each_embedded(schema, item, &format!("{path}[{index}]"), depth + 1, visit);
            }
        }
        _ => {}
    }
}

struct Path {
    text: String,
    /// The value is an object with apiVersion, kind and metadata of its own.
    whole_object: bool,
    depth: usize,
}

fn prune_value(schema: &Value, value: &mut Value, path: &mut Path, unknown: &mut Vec<String>) {
    if path.depth > DEEPEST {
        return;
    }
    path.depth += 1;
    match value {
        Value::Object(map) => prune_object(schema, map, path, unknown),
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                let length = path.text.len();
                for (index, item) in items.iter_mut().enumerate() {
                    path.text.push_str(&format!("[{index}]"));
                    path.whole_object = embeds_object(schema);
                    prune_value(schema, item, path, unknown);
                    path.text.truncate(length);
                }
            }
        }
        _ => {}
    }
    path.depth -= 1;
}

fn prune_object(schema: &Value, map: &mut Map<String, Value>, path: &mut Path, unknown: &mut Vec<String>) {
    let whole = path.whole_object;
    let names: Vec<String> = map.keys().cloned().collect();
    for name in names {
        if whole && OBJECT_FIELDS.contains(&name.as_str()) {
            continue;
        }
        let length = path.text.len();
        if length > 0 {
            path.text.push('.');
        }
        path.text.push_str(&name);
        match (field_schema(schema, &name), map.get_mut(&name)) {
            (Some(inner), Some(value)) => {
                path.whole_object = embeds_object(inner);
                prune_value(inner, value, path, unknown);
            }
            (None, _) if !preserves(schema) => {
                unknown.push(format!("unknown field {:?}", path.text));
                map.remove(&name);
            }
            _ => {}
        }
        path.text.truncate(length);
    }
    path.whole_object = whole;
}

/// The schema of a field: a named property, or what all other keys have.
fn field_schema<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let property = schema.get("properties").and_then(|properties| properties.get(name));
    property.or_else(|| schema.get("additionalProperties").filter(|values| **values != Value::Bool(false)))
}

fn preserves(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        || *schema == Value::Bool(true)
}

fn embeds_object(schema: &Value) -> bool {
    schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true))
}

/// Whether a null stays until defaults are filled in; any other is the same as no field.
fn may_be_null_or_has_a_default(schema: &Value) -> bool {
    is_nullable(schema) || preserves(schema) || schema.get("default").is_some()
}

fn is_nullable(schema: &Value) -> bool {
    schema.get("nullable") == Some(&Value::Bool(true))
}

/// Fills in what the schema has a default for, and takes away what is null and may not be.
pub(crate) fn default(schema: &Value, value: &mut Value) {
    default_value(schema, value, 0);
}

fn default_value(schema: &Value, value: &mut Value, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                !value.is_null() || field_schema(schema, name).is_none_or(may_be_null_or_has_a_default)
            });
            for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                let absent = map.get(name).is_none_or(|value| value.is_null() && !is_nullable(property));
                if let (true, Some(default)) = (absent, property.get("default")) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, inner) in map.iter_mut() {
                if let Some(schema) = field_schema(schema, name) {
                    default_value(schema, inner, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default_value(schema, item, depth + 1));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "replicas": {"type": "integer", "default": 1},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}},
        }}}})
    }

    #[test]
    fn unknown_fields_go_unless_they_are_preserved() {
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "status": {},
            "spec": {"foo": 1, "free": {"a": {"b": 1}}, "labels": {"any": "x"}, "parts": [{"name": "p", "bar": 2}]}});
        let unknown = prune(&schema(), &mut object);
        assert_eq!(
            unknown,
            ["unknown field \"spec.foo\"", "unknown field \"spec.parts[0].bar\"", "unknown field \"status\""]
        );
        assert_eq!(
            object["spec"],
            json!({"free": {"a": {"b": 1}}, "labels": {"any": "x"}, "parts": [{"name": "p"}]})
        );
        assert_eq!(object["metadata"]["name"], "n");
    }

    #[test]
    fn embedded_objects_are_shown() {
        let whole = json!({"type": "object", "x-kubernetes-embedded-resource": true});
        let schema =
            json!({"properties": {"spec": {"properties": {"one": whole, "more": {"items": whole}}}}});
        let mut object = json!({"metadata": {}, "spec": {"one": {"metadata": {"name": "a"}},
            "more": [{}, {"metadata": {"name": "b"}}]}});
        let mut seen = Vec::new();
        each_embedded(&schema, &mut object, "", 0, &mut |path, meta| {
            seen.push(format!("{path} {}", meta["name"]));
        });
        seen.sort();
        assert_eq!(seen, ["spec.more[1].metadata \"b\"", "spec.one.metadata \"a\""]);
    }

    #[test]
    fn defaults_are_filled_in_at_every_depth() {
        let mut object =
            json!({"spec": {"parts": [{}], "replicas": null, "free": {"a": null}, "labels": null}});
        default(&schema(), &mut object);
        let expected = json!({"replicas": 1, "parts": [{"name": "x"}], "free": {"a": null}});
        assert_eq!(object["spec"], expected);
    }
}
