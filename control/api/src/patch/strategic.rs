//! Strategic merge patch: a partial object in which lists may be merged by key, with directives beside the fields:
//! `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`.
//!
//! The directives are consumed here: none may reach the stored object.

use super::{PatchError, PatchField, PatchSchema, unusable};
use serde_json::{Map, Value};

mod order;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Result<T> = std::result::Result<T, PatchError>;

fn malformed(message: impl Into<String>) -> PatchError {
    PatchError::Malformed(message.into())
}

/// Applies `patch` to `object` as `schema` says; fields outside the schema merge as maps and replace as lists.
pub fn apply(object: &Value, patch: &Value, schema: Option<&dyn PatchSchema>) -> Result<Value> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(malformed(unusable(patch, "map[string]interface {}")));
    };
    merge_map(original.clone(), patch, schema).map(Value::Object)
}

fn merge_map(
    original: Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&dyn PatchSchema>,
) -> Result<Map<String, Value>> {
    match patch.get(PATCH).and_then(Value::as_str) {
        Some("replace") => return merge_fields(Map::new(), patch, schema),
        Some("delete") => return Ok(Map::new()),
        Some("merge") | None => {}
        Some(other) => return Err(malformed(format!("unknown patch type: {other}"))),
    }
    let original = match patch.get(RETAIN_KEYS) {
        Some(keys) => retain_keys(original, patch, keys)?,
        None => original,
    };
    merge_fields(original, patch, schema)
}

/// Union types (volume sources, strategies): everything that the client does not name goes away.
fn retain_keys(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<Map<String, Value>> {
    let keys = keys.as_array().ok_or_else(|| malformed("the $retainKeys directive must be a list"))?;
    let kept = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    if let Some((name, _)) =
        patch.iter().find(|(name, value)| !name.starts_with('$') && !value.is_null() && !kept(name))
    {
        return Err(malformed(format!(
            "the field {name:?} of the patch is missing in its $retainKeys directive"
        )));
    }
    original.retain(|name, _| kept(name));
    Ok(original)
}

fn merge_fields(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&dyn PatchSchema>,
) -> Result<Map<String, Value>> {
    let before = original.clone();
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let field = schema.and_then(|schema| schema.field(name)).unwrap_or_default();
        match (original.remove(name), value) {
            (_, Value::Null) => {}
            (old, value) => {
                let merged = merge_value(old, value, &field).map_err(|error| within(name, error))?;
                original.insert(name.clone(), merged);
            }
        }
    }
    for (directive, value) in patch {
        if let Some(name) = directive.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, name, value)?;
        }
    }
    for (directive, value) in patch {
        if let Some(name) = directive.strip_prefix(SET_ORDER) {
            let key = schema.and_then(|schema| schema.field(name)).and_then(|field| field.merge_key);
            order::set(&mut original, before.get(name), name, value, key.as_deref())?;
        }
    }
    Ok(original)
}

fn within(name: &str, error: PatchError) -> PatchError {
    match error {
        PatchError::Malformed(message) => PatchError::Malformed(format!("{name}: {message}")),
        other => other,
    }
}

fn merge_value(old: Option<Value>, patch: &Value, field: &PatchField) -> Result<Value> {
    let child = field.child.as_deref();
    match (old, patch) {
        (Some(Value::Object(old)), Value::Object(patch)) if !field.replace => {
            merge_map(old, patch, child).map(Value::Object)
        }
        // Also where nothing was there: a new object may carry directives and nulls, which must not be stored.
        (_, Value::Object(patch)) => merge_map(Map::new(), patch, child).map(Value::Object),
        (Some(Value::Array(old)), Value::Array(patch)) if field.merge => merge_list(old, patch, field),
        (_, Value::Array(patch)) if field.merge => merge_list(Vec::new(), patch, field),
        (_, Value::Array(patch)) => patch.iter().map(|item| merge_value(None, item, field)).collect(),
        (_, scalar) => Ok(scalar.clone()),
    }
}

fn merge_list(old: Vec<Value>, patch: &[Value], field: &PatchField) -> Result<Value> {
    if patch.iter().any(|item| item[PATCH] == "replace") {
        return replacement(patch, field).map(Value::Array);
    }
    if patch.iter().any(Value::is_object) || old.iter().any(Value::is_object) {
        let merged = merge_objects(old.clone(), patch, field)?;
        return Ok(Value::Array(order::arrange(merged, &old, patch, field.merge_key.as_deref())));
    }
    let mut merged: Vec<Value> = Vec::with_capacity(old.len() + patch.len());
    for item in old.iter().chain(patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    Ok(Value::Array(order::arrange(merged, &old, patch, None)))
}

/// The whole list as it is given, also what has one key twice (the addresses of a node with two of a kind).
fn replacement(patch: &[Value], field: &PatchField) -> Result<Vec<Value>> {
    let key = field.merge_key.as_deref().ok_or_else(|| malformed("cannot merge lists without merge key"))?;
    let mut list = Vec::with_capacity(patch.len());
    for item in patch.iter().filter(|item| item[PATCH] != "delete") {
        let element = merge_element(None, item, field)?;
        // One that holds only the directive is none.
        list.extend(element.filter(|element| item.get(PATCH).is_none() || element.get(key).is_some()));
    }
    Ok(list)
}

fn merge_objects(mut old: Vec<Value>, patch: &[Value], field: &PatchField) -> Result<Vec<Value>> {
    let key = field.merge_key.as_deref().ok_or_else(|| malformed("cannot merge lists without merge key"))?;
    for item in patch {
        match item.get(PATCH).and_then(Value::as_str) {
            Some("delete") => {
                let wanted =
                    item.get(key).ok_or_else(|| malformed("delete patch type with no merge key defined"))?;
                old.retain(|element| element.get(key) != Some(wanted));
            }
            Some("merge") | None => merge_one(&mut old, item, key, field)?,
            Some(other) => return Err(malformed(format!("unknown patch type: {other}"))),
        }
    }
    Ok(old)
}

fn merge_one(old: &mut Vec<Value>, item: &Value, key: &str, field: &PatchField) -> Result<()> {
    let wanted = item
        .get(key)
        .ok_or_else(|| malformed(format!("map: {item} does not contain declared merge key: {key}")))?;
    match old.iter_mut().find(|element| element.get(key) == Some(wanted)) {
        Some(element) => {
            if let Some(merged) = merge_element(Some(element.take()), item, field)? {
                *element = merged;
            }
        }
        None => old.extend(merge_element(None, item, field)?),
    }
    Ok(())
}

fn merge_element(old: Option<Value>, item: &Value, field: &PatchField) -> Result<Option<Value>> {
    let Value::Object(patch) = item else {
        return Err(malformed(format!("expected an object in a list of objects, found {item}")));
    };
    let old = match old {
        Some(Value::Object(old)) => old,
        _ => Map::new(),
    };
    merge_map(old, patch, field.child.as_deref()).map(|merged| Some(Value::Object(merged)))
}

fn delete_from_list(original: &mut Map<String, Value>, name: &str, values: &Value) -> Result<()> {
    let values =
        values.as_array().ok_or_else(|| malformed(format!("{DELETE_FROM_LIST}{name} must be a list")))?;
    if let Some(Value::Array(list)) = original.get_mut(name) {
        list.retain(|item| !values.contains(item));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
