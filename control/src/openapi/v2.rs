//! The older form of the documents: one for the whole server. kubectl up to 1.28 checks manifests and explains kinds by
//! it, and so do tools that were built on its libraries.

use serde_json::{Map, Value, json};

/// References may have siblings here, and there is no choice between types.
pub(super) fn schema(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(object_schema(map)),
        Value::Array(items) => Value::Array(items.into_iter().map(schema).collect()),
        other => other,
    }
}

fn object_schema(mut map: Map<String, Value>) -> Map<String, Value> {
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        name_no_fields(&mut map);
    }
    let mut out = Map::new();
    for (name, value) in map {
        match (name.as_str(), value) {
            ("$ref", Value::String(reference)) => {
                out.insert(name, reference.replacen("#/components/schemas/", "#/definitions/", 1).into());
            }
            ("allOf", Value::Array(parts)) if parts.len() == 1 => {
                for part in parts.into_iter().map(schema) {
                    out.extend(part.as_object().cloned().unwrap_or_default());
                }
            }
            ("oneOf", Value::Array(_)) => {
                out.insert("type".to_owned(), "string".into());
            }
            (_, value) => {
                out.insert(name, schema(value));
            }
        }
    }
    out
}

/// Readers of this form refuse every field that they do not find named, so a schema that lets others through names none
/// and, below the object itself, no type either.
fn name_no_fields(map: &mut Map<String, Value>) {
    const KIND: &str = "x-kubernetes-group-version-kind";
    if let Some(kind) = map.remove(KIND) {
        *map = Map::from_iter([("type".to_owned(), "object".into()), (KIND.to_owned(), kind)]);
        return;
    }
    map.retain(|name, value| match name.as_str() {
        "properties" | "items" => false,
        "type" => !matches!(value.as_str(), Some("object" | "array")),
        _ => true,
    });
}

/// Parameters have their type among their other fields, the body is one of them, and answers name their schema.
pub(super) fn path_item(item: Value) -> Value {
    let Value::Object(map) = item else { return item };
    let converted = map.into_iter().map(|(name, value)| match name.as_str() {
        "parameters" => (name, parameters(value).into()),
        _ => (name, operation(value)),
    });
    Value::Object(converted.collect())
}

fn operation(operation: Value) -> Value {
    let mut operation = operation;
    let given = operation.as_object_mut().and_then(|operation| operation.remove("parameters"));
    let mut all = parameters(given.unwrap_or_default());
    let body = operation.as_object_mut().and_then(|operation| operation.remove("requestBody"));
    if let Some(Value::Object(contents)) = body.map(|mut body| body["content"].take()) {
        let consumes: Vec<String> = contents.keys().cloned().collect();
        if let Some((_, mut first)) = contents.into_iter().next() {
            let schema = schema(first["schema"].take());
            all.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
        }
        operation["consumes"] = consumes.into();
    }
    let answer = operation.pointer_mut("/responses/200/content/application~1json/schema").map(Value::take);
    operation["responses"] = json!({"200": {"description": "OK"}});
    if let Some(answer) = answer {
        operation["responses"]["200"]["schema"] = schema(answer);
        operation["produces"] = json!(["application/json", "application/yaml"]);
    }
    if !all.is_empty() {
        operation["parameters"] = all.into();
    }
    operation
}

fn parameters(list: Value) -> Vec<Value> {
    let Value::Array(list) = list else { return Vec::new() };
    list.into_iter()
        .map(|mut parameter| {
            let schema = parameter.as_object_mut().and_then(|parameter| parameter.remove("schema"));
            if let (Some(Value::Object(schema)), Some(parameter)) = (schema, parameter.as_object_mut()) {
                parameter.extend(schema);
            }
            parameter
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_lets_others_through_names_no_fields() {
        let kind = json!([{"group": "g", "version": "v1", "kind": "K"}]);
        let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}});
        let mut root = free.clone();
        root["x-kubernetes-group-version-kind"] = kind.clone();
        assert_eq!(schema(root), json!({"type": "object", "x-kubernetes-group-version-kind": kind}));
        let below = schema(json!({"type": "object", "properties": {"spec": free}}));
        assert_eq!(below["properties"]["spec"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    }
}
