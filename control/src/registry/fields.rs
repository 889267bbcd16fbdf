//! Reading and setting fields of objects that are plain JSON. An absent field and one of the wrong type read alike: the
//! schema has refused wrong types before any of this runs.

use serde_json::{Map, Value};

/// The text at a JSON pointer, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a JSON pointer.
pub(crate) fn int(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// Whether the boolean at a JSON pointer is set.
pub(crate) fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a JSON pointer, empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The pairs of the map at a JSON pointer, none where there is no map.
pub(crate) fn pairs<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Sets a field of an object.
pub(crate) fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(name.to_owned(), value);
    }
}

/// Sets a field of a nested object, which is made if it is absent.
pub(crate) fn set_in(object: &mut Value, parent: &str, name: &str, value: Value) {
    if let Some(parent) = child(object, parent) {
        set(parent, name, value);
    }
}

/// Sets a field that is absent or null.
pub(crate) fn fill(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object
        && map.get(name).is_none_or(Value::is_null)
    {
        map.insert(name.to_owned(), value.into());
    }
}

/// Sets a text that is absent or empty: in Kubernetes' Go types both are the same.
pub(crate) fn fill_text(object: &mut Value, name: &str, value: &str) {
    if object.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        set(object, name, value.into());
    }
}

/// Sets an integer that is absent or zero.
pub(crate) fn fill_int(object: &mut Value, name: &str, value: i64) {
    if object.get(name).and_then(Value::as_i64).unwrap_or(0) == 0 {
        set(object, name, value.into());
    }
}

/// A nested object, which is made if it is absent.
pub(crate) fn child<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let map = object.as_object_mut()?;
    let child = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    Some(child)
}

/// Each element of a list field, to be changed in place.
pub(crate) fn each<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Gives `to` those of the named fields that it lacks.
pub(crate) fn copy_missing(to: &mut Value, from: &Value, names: &[&str]) {
    for name in names {
        if let Some(value) = from.get(*name).filter(|_| to.get(*name).is_none_or(Value::is_null)) {
            set(to, name, value.clone());
        }
    }
}

/// Makes a field the same as in another object, absent where it is absent there.
pub(crate) fn copy(to: &mut Value, from: &Value, name: &str) {
    let Value::Object(map) = to else { return };
    match from.get(name) {
        Some(value) => map.insert(name.to_owned(), value.clone()),
        None => map.remove(name),
    };
}
