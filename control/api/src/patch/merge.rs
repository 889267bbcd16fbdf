//! RFC 7396: a partial object; null removes a field, a list replaces a list.

use super::{PatchError, unusable};
use serde_json::Value;

/// Applies `patch`, which must be an object, to `object`.
pub fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        let fault = unusable(patch, "map[string]interface {}");
        return Err(PatchError::Malformed(format!("error decoding patch: {fault}")));
    }
    let mut patched = object.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_removes_and_lists_replace() {
        let object = json!({"a": 1, "b": [1, 2], "c": {"d": 1, "e": 2}});
        let patch = json!({"a": null, "b": [3], "c": {"d": null}});
        assert_eq!(apply(&object, &patch).unwrap(), json!({"b": [3], "c": {"e": 2}}));
        let refused = apply(&object, &json!([])).unwrap_err().to_string();
        assert_eq!(
            refused,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
    }
}
