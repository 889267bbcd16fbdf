//! The order of a merged list: that of the patch, or the one that it wants by `$setElementOrder/FIELD`. Elements that the
//! client does not know stay where they stood relative to the ones it does; what is new comes before them.

use super::{Result, SET_ORDER, malformed};
use serde_json::{Map, Value};

/// Reorders `object[name]`; `before` is the list as it was, which places the elements the directive does not name.
pub(super) fn set(
    object: &mut Map<String, Value>,
    before: Option<&Value>,
    name: &str,
    wanted: &Value,
    key: Option<&str>,
) -> Result<()> {
    let wanted = wanted.as_array().ok_or_else(|| malformed(format!("{SET_ORDER}{name} must be a list")))?;
    let Some(Value::Array(list)) = object.get_mut(name) else { return Ok(()) };
    let before = before.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    *list = arrange(std::mem::take(list), before, wanted, key);
    Ok(())
}

/// The elements of `list`, which is `before` with the elements of `wanted` merged in.
pub(super) fn arrange(list: Vec<Value>, before: &[Value], wanted: &[Value], key: Option<&str>) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        list.into_iter().partition(|item| index(wanted, item, key).is_some());
    named.sort_by_key(|item| index(wanted, item, key));
    others.sort_by_key(|item| index(before, item, key));
    interleave(others, named, before, key)
}

fn index(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    match key {
        Some(key) => list.iter().position(|other| other.get(key) == item.get(key)),
        None => list.iter().position(|other| other == item),
    }
}

/// Keeps the order within both lists; one of `others` comes first only if it stood before its rival.
fn interleave(others: Vec<Value>, named: Vec<Value>, before: &[Value], key: Option<&str>) -> Vec<Value> {
    let mut merged = Vec::with_capacity(others.len() + named.len());
    let mut others = others.into_iter().peekable();
    let mut named = named.into_iter().peekable();
    while let (Some(other), Some(own)) = (others.peek(), named.peek()) {
        let first = match (index(before, other, key), index(before, own, key)) {
            (Some(other), Some(own)) => other < own,
            _ => false,
        };
        merged.extend(if first { others.next() } else { named.next() });
    }
    merged.extend(others);
    merged.extend(named);
    merged
}
