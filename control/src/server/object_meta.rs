//! The rules of `metadata` that hold for every kind: what the server fills in, what a client cannot change, and what
//! makes it invalid.

use crate::random;
use crate::registry::{Cause, Resource};
use jiff::Timestamp;
use knarr_api::{Status, meta, names};
use serde_json::{Value, json};

/// Names are cut to this before five characters are added.
const MAX_GENERATED_PREFIX: usize = 58;
/// All annotations of an object together, bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The current time as Kubernetes writes it, in whole seconds.
pub(crate) fn now() -> String {
    timestamp(Timestamp::now())
}

/// RFC 3339 in whole seconds.
pub(crate) fn timestamp(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// What a new object gets: a name if it wants one, its namespace, an identity. Server-owned fields are taken away.
pub(crate) fn begin(object: &mut Value, resource: &Resource, namespace: &str) -> Result<(), Status> {
    if !matches!(meta::resource_version(object), "" | "0") {
        return Err(Status::unexplained("resourceVersion should not be set on objects to be created"));
    }
    place(object, resource, namespace)?;
    if meta::name(object).is_empty() && !meta::generate_name(object).is_empty() {
        let prefix: String = meta::generate_name(object).chars().take(MAX_GENERATED_PREFIX).collect();
        meta::set(object, "name", format!("{prefix}{}", random::suffix(5)));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        meta::remove(object, field);
    }
    drop_empty(object);
    meta::set(object, "uid", random::uid());
    meta::set(object, "creationTimestamp", now());
    if resource.strategy.has_generation() {
        meta::set(object, "generation", 1);
    }
    Ok(())
}

/// The namespace of the path is the object's; another one in the body is a mistake.
pub(crate) fn place(object: &mut Value, resource: &Resource, namespace: &str) -> Result<(), Status> {
    if !resource.namespaced {
        meta::remove(object, "namespace");
        return Ok(());
    }
    let found = meta::namespace(object);
    if !found.is_empty() && found != namespace {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(text));
    }
    meta::set(object, "namespace", namespace);
    Ok(())
}

/// Where the body is the whole object it must have a name.
pub(crate) fn require_name(object: &Value, name: &str) -> Result<(), Status> {
    if !meta::name(object).is_empty() {
        return Ok(());
    }
    let text =
        format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
    Err(Status::bad_request(text))
}

/// The name in the body, where there is one, must be the one in the path.
pub(crate) fn check_name(object: &mut Value, name: &str) -> Result<(), Status> {
    let found = meta::name(object);
    if !found.is_empty() && found != name {
        let text = format!("the name of the object ({found}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(text));
    }
    meta::set(object, "name", name);
    Ok(())
}

/// An empty map or list of the metadata is the same as none, and none is what is stored: else an unchanged object
/// would look changed.
fn drop_empty(object: &mut Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let found = object.pointer(&format!("/metadata/{field}"));
        if found.is_some_and(|value| *value == json!({}) || *value == json!([])) {
            meta::remove(object, field);
        }
    }
}

/// What an update cannot change is what it was.
pub(crate) fn carry_over(old: &Value, new: &mut Value) {
    let kept = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "name",
        "generateName",
        "resourceVersion",
    ];
    for field in kept {
        meta::copy(old, new, field);
    }
    drop_empty(new);
    if new.pointer("/metadata/managedFields").is_none() {
        meta::copy(old, new, "managedFields");
    }
}

/// When an object dies is decided by whoever deletes it, not by whoever writes it.
pub(crate) fn resurrections(new: &Value, old: &Value) -> Vec<Cause> {
    let fields = ["deletionTimestamp", "deletionGracePeriodSeconds"];
    let changed = fields.into_iter().filter_map(|field| {
        let wanted = new["metadata"].get(field).filter(|value| !value.is_null())?;
        let found = old["metadata"].get(field).unwrap_or(&Value::Null);
        (wanted != found).then(|| invalid_value(&format!("metadata.{field}"), wanted, "field is immutable"))
    });
    changed.collect()
}

/// Every fault of the metadata of a new object.
pub(crate) fn validate(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta::name(object);
    if name.is_empty() {
        let message = "Required value: name or generateName is required".to_owned();
        causes.push(Cause { reason: "FieldValueRequired", field: "metadata.name".into(), message });
    }
    causes.extend(names::path_segment(name).iter().map(|fault| invalid("metadata.name", name, fault)));
    validate_labels(object, &mut causes);
    validate_annotations(object, &mut causes);
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    if generation < 0 {
        let message = format!("Invalid value: {generation}: must be greater than or equal to 0");
        causes.push(Cause { reason: "FieldValueInvalid", field: "metadata.generation".into(), message });
    }
    validate_finalizers(object, &mut causes);
    validate_owners(object, &mut causes);
    causes
}

fn validate_finalizers(object: &Value, causes: &mut Vec<Cause>) {
    // Authors of custom resources choose names as they like; kinds of Kubernetes have kept names without a domain to
    // themselves.
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let extensible = matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    let own = !extensible && (!group.contains('.') || group.ends_with(".k8s.io"));
    for (index, finalizer) in meta::finalizers(object).enumerate() {
        let field = "metadata.finalizers";
        let faults = names::qualified_name(finalizer);
        causes.extend(faults.iter().map(|fault| invalid(field, finalizer, fault)));
        if own {
            let more = names::finalizer(finalizer);
            let field = format!("{field}[{index}]");
            causes.extend(more[faults.len()..].iter().map(|fault| invalid(&field, finalizer, fault)));
        }
    }
}

/// Owners are named in full, events own nothing, and one owner at most is in control.
fn validate_owners(object: &Value, causes: &mut Vec<Cause>) {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let field = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in owners.into_iter().flatten() {
        let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion");
        if version.is_empty() || version.split('/').count() > 2 {
            causes.push(invalid(&format!("{field}.apiVersion"), version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"].into_iter().filter(|name| text(name).is_empty()) {
            causes.push(invalid(&format!("{field}.{name}"), "", "must not be empty"));
        }
        if text("kind") == "Event" && matches!(version, "v1" | "events.k8s.io/v1") {
            let group = version.rsplit_once('/').map_or("", |(group, _)| group);
            let detail = format!("{group}/v1, Kind=Event is disallowed from being an owner");
            causes.push(invalid_value(field, owner, &detail));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let all = owners.map(|owners| json!(owners)).unwrap_or_default();
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                causes.push(invalid_value(field, &all, &detail));
            }
            controller = Some(this);
        }
    }
}

fn invalid_value(field: &str, value: &Value, fault: &str) -> Cause {
    let message = format!("Invalid value: {value}: {fault}");
    Cause { reason: "FieldValueInvalid", field: field.to_owned(), message }
}

/// Every fault of an update of the metadata: besides the above, no finalizer may come while the object goes.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = validate(new);
    if meta::deletion_timestamp(old).is_some() {
        let known: Vec<&str> = meta::finalizers(old).collect();
        let added: Vec<String> = meta::finalizers(new)
            .filter(|name| !known.contains(name))
            .map(|name| format!("{name:?}"))
            .collect();
        if !added.is_empty() {
            let list = added.join(", ");
            let message = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            causes.push(Cause {
                reason: "FieldValueForbidden",
                field: "metadata.finalizers".into(),
                message,
            });
        }
    }
    causes
}

fn invalid(field: &str, value: &str, fault: &str) -> Cause {
    let message = format!("Invalid value: {value:?}: {fault}");
    Cause { reason: "FieldValueInvalid", field: field.to_owned(), message }
}

fn validate_labels(object: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in meta::labels(object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        causes.extend(names::qualified_name(key).iter().map(|fault| invalid("metadata.labels", key, fault)));
        causes.extend(names::label_value(value).iter().map(|fault| invalid("metadata.labels", value, fault)));
    }
}

fn validate_annotations(object: &Value, causes: &mut Vec<Cause>) {
    let Some(annotations) = object.pointer("/metadata/annotations").and_then(Value::as_object) else {
        return;
    };
    let mut size = 0;
    for (key, value) in annotations {
        size += key.len() + value.as_str().map_or(0, str::len);
        let lower = key.to_ascii_lowercase();
        causes.extend(
            names::qualified_name(&lower).iter().map(|fault| invalid("metadata.annotations", key, fault)),
        );
    }
    if size > MAX_ANNOTATIONS {
        let message = format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: "metadata.annotations".into(), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(object: Value) -> Vec<String> {
        validate(&object).into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn every_fault_names_its_field() {
        assert_eq!(fields(json!({"metadata": {"name": "a", "labels": {"b/c": "d"}}})), Vec::<String>::new());
        assert_eq!(fields(json!({})), ["metadata.name"]);
        assert_eq!(fields(json!({"metadata": {"name": "a/b"}})), ["metadata.name"]);
        assert_eq!(fields(json!({"metadata": {"name": "a", "labels": {"-": "-"}}})).len(), 2);
        assert_eq!(
            fields(json!({"metadata": {"name": "a", "finalizers": ["ok/x", ""]}}))[0],
            "metadata.finalizers"
        );
        let long = "x".repeat(MAX_ANNOTATIONS);
        assert_eq!(
            fields(json!({"metadata": {"name": "a", "annotations": {"a": long}}})),
            ["metadata.annotations"]
        );
    }

    #[test]
    fn a_dying_object_gets_no_new_finalizers() {
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["a/b"]}});
        let mut new = old.clone();
        meta::set_finalizers(&mut new, vec!["a/b".into(), "c/d".into()]);
        assert!(validate_update(&new, &old)[0].message.ends_with(r#"found new finalizers []string{"c/d"}"#));
        meta::set_finalizers(&mut new, vec![]);
        assert!(validate_update(&new, &old).is_empty());
    }

    #[test]
    fn an_update_cannot_change_the_identity() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "creationTimestamp": "t", "generation": 2}});
        let mut new =
            json!({"metadata": {"name": "b", "uid": "2", "deletionTimestamp": "now", "labels": {"x": "y"}}});
        carry_over(&old, &mut new);
        assert_eq!(
            new["metadata"],
            json!({"name": "a", "uid": "1", "creationTimestamp": "t", "generation": 2, "labels": {"x": "y"}})
        );
    }
}
