//! `metadata` of an object: typed access to the fields that the machinery itself reads and writes.
//!
//! Reading tolerates anything: a field of the wrong type counts as absent (the schema check reports it). Writing
//! creates `metadata` where it is missing, and keeps every field it does not know.

use serde_json::{Map, Value, json};

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// `metadata.name`, empty where absent.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.generateName`, empty where absent.
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`, empty where absent.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`, empty where absent.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`, empty where absent.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`.
pub fn generation(object: &Value) -> Option<i64> {
    object.pointer("/metadata/generation").and_then(Value::as_i64)
}

/// `metadata.deletionTimestamp`, as RFC 3339.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    Some(text(object, "deletionTimestamp")).filter(|time| !time.is_empty())
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64)
}

/// `metadata.creationTimestamp`, as RFC 3339.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    Some(text(object, "creationTimestamp")).filter(|time| !time.is_empty())
}

/// The value of one label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object).and_then(|labels| labels.get(key)).and_then(Value::as_str)
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("labels")?.as_object()
}

/// The value of one annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// `metadata.finalizers`, in order.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list(object, "ownerReferences")
}

/// The owner reference with `controller: true`.
pub fn controller(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| owner["controller"] == true)
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    let found = object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// `metadata` for writing; an object without one gets one. `None` only when `object` is no JSON object.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let fields = object.as_object_mut()?;
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut()
}

/// Sets `metadata.FIELD`.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert(field.to_owned(), value.into());
    }
}

/// Removes `metadata.FIELD`.
pub fn remove(object: &mut Value, field: &str) -> Option<Value> {
    metadata_mut(object).and_then(|metadata| metadata.remove(field))
}

/// Makes `metadata.FIELD` of `to` what it is in `from`, absent included.
pub fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get("metadata").and_then(|metadata| metadata.get(field)) {
        Some(value) => set(to, field, value.clone()),
        None => {
            remove(to, field);
        }
    }
}

/// Replaces `metadata.finalizers`; an empty list removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        remove(object, "finalizers");
    } else {
        set(object, "finalizers", finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_wrong_type_counts_as_absent() {
        let object = json!({"metadata": {"name": 3, "labels": [], "finalizers": "x"}});
        assert_eq!(name(&object), "");
        assert!(labels(&object).is_none());
        assert_eq!(finalizers(&object).count(), 0);
        assert_eq!(name(&json!("text")), "");
    }

    #[test]
    fn writing_creates_the_metadata_and_keeps_the_rest() {
        let mut object = json!({"spec": {}, "metadata": null});
        set(&mut object, "name", "a");
        set_finalizers(&mut object, vec!["x".into()]);
        assert_eq!(object, json!({"spec": {}, "metadata": {"name": "a", "finalizers": ["x"]}}));
        set_finalizers(&mut object, vec![]);
        assert_eq!(object["metadata"], json!({"name": "a"}));
    }
}
