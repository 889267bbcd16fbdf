//! RFC 6902: a list of operations, applied all or none.

use super::PatchError;
use serde_json::Value;

/// More operations than this are refused, as Kubernetes does: each may copy the whole object.
const MAX_OPERATIONS: usize = 10_000;

/// Applies the operations to `object`; on an error the object is as before.
pub fn apply(object: &Value, operations: &Value) -> Result<Value, PatchError> {
    let count = operations.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        let limit =
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(PatchError::Malformed(limit));
    }
    let patch: json_patch::Patch = serde_json::from_value(operations.clone())
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| PatchError::Inapplicable(error.to_string()))?;
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_apply_all_or_none() {
        let object = json!({"spec": {"replicas": 1}});
        let good = json!([{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "add", "path": "/spec/x", "value": 2}]);
        assert_eq!(apply(&object, &good).unwrap(), json!({"spec": {"replicas": 1, "x": 2}}));
        let bad = json!([{"op": "remove", "path": "/spec/none"}]);
        assert!(matches!(apply(&object, &bad), Err(PatchError::Inapplicable(_))));
        assert!(matches!(apply(&object, &json!({"op": "add"})), Err(PatchError::Malformed(_))));
    }
}
