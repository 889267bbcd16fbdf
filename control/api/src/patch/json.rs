//! RFC 6902: a list of operations, applied all or none.

use super::{PatchError, unusable};
use serde_json::Value;

/// More operations than this are refused, as Kubernetes does: each may copy the whole object.
const MAX_OPERATIONS: usize = 10_000;
/// All copies of one patch together may hold this many bytes: a few that copy the object into itself double it each.
const MAX_COPIED: usize = 3 << 20;

/// Applies the operations to `object`; on an error the object is as before.
pub fn apply(object: &Value, operations: &Value) -> Result<Value, PatchError> {
    let count = operations.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        let limit =
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(PatchError::Malformed(limit));
    }
    if let Some(fault) = foreign(operations) {
        return Err(PatchError::Malformed(format!("error decoding patch: {fault}")));
    }
    let patch: json_patch::Patch = serde_json::from_value(operations.clone()).map_err(|error| {
        let message = format!("error decoding patch: {error}");
        // A list of objects is a patch, only not one that can be applied.
        PatchError::Inapplicable(message)
    })?;
    let (mut patched, mut copied) = (object.clone(), 0);
    for (number, operation) in patch.iter().enumerate() {
        copied += copied_by(operation, &patched, MAX_COPIED);
        if copied > MAX_COPIED {
            let limit = format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
            );
            return Err(PatchError::Malformed(limit));
        }
        let operation = &lenient(operation.clone(), &patched);
        // What it leaves behind after an error is thrown away: nothing needs to be undone.
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(|error| {
            let mut numbered = error;
            numbered.operation = number;
            PatchError::Inapplicable(numbered.to_string())
        })?;
    }
    Ok(patched)
}

/// What is no list of operations.
fn foreign(operations: &Value) -> Option<String> {
    const OPERATION: &str = "handlers.jsonPatchOp";
    match operations {
        Value::Array(all) => all.iter().find(|one| !one.is_object()).map(|one| unusable(one, OPERATION)),
        other => Some(unusable(other, &format!("[]{OPERATION}"))),
    }
}

/// Kubernetes replaces what is not there in a map: it is added.
fn lenient(operation: json_patch::PatchOperation, object: &Value) -> json_patch::PatchOperation {
    match operation {
        json_patch::PatchOperation::Replace(replace) => {
            let path = replace.path.as_str();
            let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
            if parent.is_some_and(Value::is_object) && object.pointer(path).is_none() {
                let (path, value) = (replace.path, replace.value);
                return json_patch::PatchOperation::Add(json_patch::AddOperation { path, value });
            }
            json_patch::PatchOperation::Replace(replace)
        }
        other => other,
    }
}

/// Bytes that an operation adds by copying; looks no further once there are more than `limit`.
fn copied_by(operation: &json_patch::PatchOperation, object: &Value, limit: usize) -> usize {
    match operation {
        json_patch::PatchOperation::Copy(copy) => {
            let from = object.pointer(copy.from.as_str());
            from.map_or(0, |value| size(value, limit))
        }
        _ => 0,
    }
}

fn size(value: &Value, limit: usize) -> usize {
    let mut total = 8;
    let parts: Box<dyn Iterator<Item = (usize, &Value)>> = match value {
        Value::String(text) => return total + text.len(),
        Value::Array(items) => Box::new(items.iter().map(|item| (0, item))),
        Value::Object(fields) => Box::new(fields.iter().map(|(name, item)| (name.len(), item))),
        _ => return total,
    };
    for (name, item) in parts {
        if total > limit {
            break;
        }
        total += name + size(item, limit - total);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn copies_that_double_the_object_are_refused_early() {
        let object = json!({"data": {"a": "x".repeat(1000)}});
        let copy = |number: usize| json!({"op": "copy", "from": "/data", "path": format!("/data/x{number}")});
        let few: Value = (0..5).map(copy).collect();
        assert!(apply(&object, &few).is_ok());
        let many: Value = (0..40).map(copy).collect();
        assert!(
            matches!(apply(&object, &many), Err(PatchError::Malformed(why)) if why.contains("exceeding the limit"))
        );
    }

    #[test]
    fn operations_apply_all_or_none() {
        let object = json!({"spec": {"replicas": 1}});
        let good = json!([{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "add", "path": "/spec/x", "value": 2}]);
        assert_eq!(apply(&object, &good).unwrap(), json!({"spec": {"replicas": 1, "x": 2}}));
        let bad = json!([{"op": "remove", "path": "/spec/none"}]);
        assert!(matches!(apply(&object, &bad), Err(PatchError::Inapplicable(_))));
        let refused = apply(&object, &json!({"op": "add"})).unwrap_err().to_string();
        assert_eq!(
            refused,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        );
        assert!(matches!(apply(&object, &json!([{"op": "add"}])), Err(PatchError::Inapplicable(_))));
        let new = json!([{"op": "replace", "path": "/spec/new", "value": 3}]);
        assert_eq!(apply(&object, &new).unwrap(), json!({"spec": {"replicas": 1, "new": 3}}));
        let nowhere = json!([{"op": "replace", "path": "/none/new", "value": 3}]);
        assert!(matches!(apply(&object, &nowhere), Err(PatchError::Inapplicable(_))));
    }
}
