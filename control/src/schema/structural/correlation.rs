//! What a part of an object was before a change: by this a schema that became stricter leaves alone what nobody changed.

use crate::registry::fields;
use serde_json::Value;

/// What an element of a list was before: lists that are maps know it by its keys, others do not.
pub(super) fn counterpart<'a>(schema: &Value, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
    if !knows_elements(schema) {
        return None;
    }
    let keys: Vec<&str> =
        fields::list(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let same = |other: &&Value| keys.iter().all(|key| other.get(*key) == item.get(*key));
    old?.as_array()?.iter().find(same)
}

/// Whether a list with this schema is a map.
pub(super) fn knows_elements(schema: &Value) -> bool {
    fields::text(schema, "/x-kubernetes-list-type") == "map"
}

/// Whether an object with this schema knows its fields one by one.
pub(super) fn knows_fields(schema: &Value) -> bool {
    fields::text(schema, "/x-kubernetes-map-type") != "atomic"
}
