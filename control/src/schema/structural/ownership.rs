//! How the fields of custom resources are divided among their owners, as their schema says: `x-kubernetes-list-type`,
//! `x-kubernetes-list-map-keys`, `x-kubernetes-map-type`.

use super::field_schema;
use crate::schema::patch_schema;
use knarr_api::patch::{Ownership, PatchField, PatchSchema};
use serde_json::Value;
use std::sync::Arc;

/// A part of a schema: the whole, and the way down.
struct Below {
    schema: Arc<Value>,
    pointer: String,
}

/// The division that the schema of a custom resource describes.
pub(crate) fn of_custom(schema: &Arc<Value>) -> Arc<dyn PatchSchema> {
    Arc::new(Below { schema: schema.clone(), pointer: String::new() })
}

impl PatchSchema for Below {
    fn field(&self, name: &str) -> Option<PatchField> {
        if self.pointer.is_empty() && name == "metadata" {
            // The metadata of every object is the same.
            return patch_schema("", "v1", "ConfigMap")?.field(name);
        }
        let own = self.schema.pointer(&self.pointer)?;
        let found = field_schema(own, name)?;
        let named = own.get("properties").is_some_and(|properties| properties.get(name).is_some());
        let step = match named {
            true => format!("properties/{}", name.replace('~', "~0").replace('/', "~1")),
            false => "additionalProperties".to_owned(),
        };
        let below = |more: &str| {
            let pointer = format!("{}/{step}{more}", self.pointer);
            Some(Arc::new(Self { schema: self.schema.clone(), pointer }) as Arc<dyn PatchSchema>)
        };
        let items = found.get("items");
        Some(PatchField {
            ownership: ownership(found),
            atomic_elements: items.is_some_and(|items| said(items, "x-kubernetes-map-type") == "atomic"),
            child: if items.is_some() { below("/items") } else { below("") },
            ..PatchField::default()
        })
    }
}

fn said<'a>(schema: &'a Value, what: &str) -> &'a str {
    schema.get(what).and_then(Value::as_str).unwrap_or_default()
}

fn ownership(schema: &Value) -> Ownership {
    match (said(schema, "x-kubernetes-list-type"), said(schema, "x-kubernetes-map-type")) {
        ("set", _) => Ownership::Set,
        ("map", _) => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            let default = |key: &str| schema["items"]["properties"][key].get("default").cloned();
            let keys = keys.filter_map(Value::as_str).map(|key| (Arc::from(key), default(key)));
            Ownership::Map(keys.collect())
        }
        ("atomic", _) | (_, "atomic") => Ownership::Atomic,
        _ => Ownership::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_maps_are_divided_as_the_author_says() {
        let schema = Arc::new(json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {"type": "object", "properties": {"protocol": {"type": "string", "default": "TCP"},
                        "hosts": {"type": "array", "x-kubernetes-list-type": "set"}}}},
                "ref": {"type": "object", "x-kubernetes-map-type": "atomic"},
                "any/how": {"type": "object", "additionalProperties": {"type": "object", "x-kubernetes-map-type": "atomic"}},
            }},
        }}));
        let root = of_custom(&schema);
        let spec = root.field("spec").unwrap().child.unwrap();
        let ports = spec.field("ports").unwrap();
        let keys = vec![("port".into(), None), ("protocol".into(), Some(json!("TCP")))];
        assert_eq!(ports.ownership, Ownership::Map(keys));
        assert_eq!(ports.child.unwrap().field("hosts").unwrap().ownership, Ownership::Set);
        assert_eq!(spec.field("ref").unwrap().ownership, Ownership::Atomic);
        let any = spec.field("any/how").unwrap().child.unwrap();
        assert_eq!(any.field("x").unwrap().ownership, Ownership::Atomic);
        let metadata = root.field("metadata").unwrap().child.unwrap();
        assert!(matches!(metadata.field("ownerReferences").unwrap().ownership, Ownership::Map(_)));
        assert!(spec.field("gone").is_none());
    }
}
