//! Walking objects field by field, as their schema divides them: maps by name, keyed lists by their keys, sets by
//! value; everything else (scalars, atomic maps and lists) is one field.

use crate::patch::field_set::{FieldSet, readable};
use crate::patch::{Ownership, PatchField};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What lies between two states of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// New, or with another value.
    pub(super) changed: FieldSet,
    /// No longer there.
    pub(super) removed: FieldSet,
}

/// A value, divided.
enum Parts<'a> {
    /// By path element, each with its value and how that is divided further.
    Elements(Vec<(String, &'a Value, PatchField)>),
    Whole,
}

fn divide<'a>(value: &'a Value, field: &PatchField) -> Parts<'a> {
    match (value, &field.ownership) {
        (Value::Object(map), ownership) if *ownership != Ownership::Atomic => Parts::Elements(
            map.iter().map(|(name, value)| (format!("f:{name}"), value, below(field, name))).collect(),
        ),
        (Value::Array(list), Ownership::Set) => Parts::Elements(
            list.iter().map(|item| (format!("v:{item}"), item, PatchField::default())).collect(),
        ),
        (Value::Array(list), Ownership::Map(keys)) => {
            let element = |item: &'a Value| (key_of(item, keys), item, element_field(field));
            Parts::Elements(list.iter().map(element).collect())
        }
        _ => Parts::Whole,
    }
}

fn below(field: &PatchField, name: &str) -> PatchField {
    field.child.as_ref().and_then(|schema| schema.field(name)).unwrap_or_default()
}

fn element_field(list: &PatchField) -> PatchField {
    let ownership = if list.atomic_elements { Ownership::Atomic } else { Ownership::Default };
    PatchField { child: list.child.clone(), ownership, ..PatchField::default() }
}

fn key_of(item: &Value, keys: &[(std::sync::Arc<str>, Option<Value>)]) -> String {
    let value = |key: &str, default: &Option<Value>| item.get(key).or(default.as_ref()).cloned();
    let found: BTreeMap<&str, Value> =
        keys.iter().filter_map(|(key, default)| Some((&**key, value(key, default)?))).collect();
    format!("k:{}", serde_json::to_string(&found).unwrap_or_default())
}

fn is_list_element(element: &str) -> bool {
    element.starts_with("k:") || element.starts_with("v:")
}

/// Every field of a value. Elements of lists are fields themselves, besides what they contain.
pub(super) fn fields_of(value: &Value, field: &PatchField) -> FieldSet {
    let Parts::Elements(elements) = divide(value, field) else { return FieldSet::leaf() };
    let mut set = FieldSet { member: elements.is_empty(), ..FieldSet::default() };
    for (element, value, field) in elements {
        let mut fields = fields_of(value, &field);
        fields.member |= is_list_element(&element);
        set.add(element, fields);
    }
    set
}

/// Every field of a value and everything that contains fields: what there is where nothing was.
fn everything_of(value: &Value, field: &PatchField) -> FieldSet {
    let mut set = FieldSet::leaf();
    if let Parts::Elements(elements) = divide(value, field) {
        for (element, value, field) in elements {
            set.add(element, everything_of(value, &field));
        }
    }
    set
}

/// What changed from `old` to `new`.
fn compare(old: &Value, new: &Value, field: &PatchField) -> Difference {
    let mut difference = Difference::default();
    // Most of an object stays as it is in most changes, and looking is cheaper than dividing.
    if old == new {
        return difference;
    }
    match (divide(old, field), divide(new, field)) {
        (Parts::Elements(old_parts), Parts::Elements(new_parts)) => {
            compare_parts(&old_parts, &new_parts, &mut difference);
        }
        (Parts::Elements(old_parts), _) if new.is_null() => {
            compare_parts(&old_parts, &[], &mut difference);
        }
        (_, Parts::Elements(new_parts)) if old.is_null() => {
            compare_parts(&[], &new_parts, &mut difference);
        }
        _ => {
            if !old.is_null() {
                difference.removed = everything_of(old, field);
            }
            if !new.is_null() {
                difference.changed = everything_of(new, field);
                difference.removed = difference.removed.difference(&difference.changed);
            }
        }
    }
    difference
}

/// What changed of two whole objects, apart from the names and versions at the root and from the fields of the metadata
/// that are `unowned`.
pub(super) fn compare_owned(old: &Value, new: &Value, field: &PatchField, unowned: &[&str]) -> Difference {
    let mut difference = Difference::default();
    let nobodys = ["f:apiVersion", "f:kind", "f:metadata"];
    let root = |object| elements_but(object, field, |element| nobodys.contains(&element));
    compare_parts(&root(old), &root(new), &mut difference);
    let field = below(field, "metadata");
    let is_unowned = |element: &str| element.strip_prefix("f:").is_some_and(|name| unowned.contains(&name));
    let mut within = Difference::default();
    let parts = |object| elements_but(object_part(object, "metadata"), &field, is_unowned);
    compare_parts(&parts(old), &parts(new), &mut within);
    difference.changed.add("f:metadata".to_owned(), within.changed);
    difference.removed.add("f:metadata".to_owned(), within.removed);
    difference
}

fn object_part<'a>(object: &'a Value, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

/// The elements of an object without those that are skipped; none of what is no object.
fn elements_but<'a>(
    value: &'a Value,
    field: &PatchField,
    skipped: impl Fn(&str) -> bool,
) -> Vec<Element<'a>> {
    match divide(value, field) {
        Parts::Elements(mut elements) => {
            elements.retain(|(element, ..)| !skipped(element));
            elements
        }
        Parts::Whole => Vec::new(),
    }
}

type Element<'a> = (String, &'a Value, PatchField);

fn compare_parts(old: &[Element<'_>], new: &[Element<'_>], difference: &mut Difference) {
    let old_by_name: BTreeMap<&str, &Value> =
        old.iter().map(|(element, value, _)| (element.as_str(), *value)).collect();
    let new_names: BTreeSet<&str> = new.iter().map(|(element, ..)| element.as_str()).collect();
    let mut add = |element: &str, below: Difference| {
        difference.changed.add(element.to_owned(), below.changed);
        difference.removed.add(element.to_owned(), below.removed);
    };
    for (element, value, field) in new {
        match old_by_name.get(element.as_str()) {
            Some(old) => add(element, compare(old, value, field)),
            None if field.always => add(element, compare(&empty(value), value, field)),
            None => {
                let changed = everything_of(value, field);
                add(element, Difference { changed, ..Difference::default() });
            }
        }
    }
    for (element, value, field) in old.iter().filter(|(element, ..)| !new_names.contains(element.as_str())) {
        if field.always {
            add(element, compare(value, &empty(value), field));
        } else {
            let removed = everything_of(value, field);
            add(element, Difference { removed, ..Difference::default() });
        }
    }
}

/// The empty value of the same form.
fn empty(value: &Value) -> Value {
    match value {
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Object(Map::new()),
    }
}

/// `live` with everything that `config` says.
pub(super) fn merge(live: &Value, config: &Value, field: &PatchField) -> Value {
    match (live, config, &field.ownership) {
        (Value::Object(live), Value::Object(config), ownership) if *ownership != Ownership::Atomic => {
            let mut merged = live.clone();
            for (name, value) in config {
                let old = live.get(name).unwrap_or(&Value::Null);
                merged.insert(name.clone(), merge(old, value, &below(field, name)));
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(config), Ownership::Set) => {
            let mut merged = live.clone();
            merged.extend(config.iter().filter(|item| !live.contains(item)).cloned());
            Value::Array(merged)
        }
        (Value::Array(live), Value::Array(config), Ownership::Map(keys)) => {
            let mut merged = live.clone();
            for item in config {
                let key = key_of(item, keys);
                match merged.iter_mut().find(|known| key_of(known, keys) == key) {
                    Some(known) => *known = merge(known, item, &element_field(field)),
                    None => merged.push(item.clone()),
                }
            }
            Value::Array(merged)
        }
        _ => config.clone(),
    }
}

/// Removes the fields of `gone`; whatever contains a field of `kept` stays. What is empty afterwards goes as well.
pub(super) fn remove(value: &mut Value, gone: &FieldSet, kept: &FieldSet, field: &PatchField) {
    match (value, &field.ownership) {
        (Value::Object(map), _) => remove_fields(map, gone, kept, field),
        (Value::Array(list), Ownership::Set) => {
            list.retain(|item| !gone.children.contains_key(&format!("v:{item}")))
        }
        (Value::Array(list), Ownership::Map(keys)) => {
            list.retain_mut(|item| {
                let key = key_of(item, keys);
                let Some(below) = gone.children.get(&key) else { return true };
                let Some(kept_below) = kept.children.get(&key).filter(|kept| !kept.is_empty()) else {
                    return !below.member;
                };
                remove(item, below, kept_below, &element_field(field));
                true
            });
        }
        _ => {}
    }
}

fn remove_fields(map: &mut Map<String, Value>, gone: &FieldSet, kept: &FieldSet, field: &PatchField) {
    let nothing = FieldSet::default();
    for (element, below_gone) in &gone.children {
        let Some(name) = element.strip_prefix("f:") else { continue };
        let kept_below = kept.children.get(element).unwrap_or(&nothing);
        if below_gone.member && kept_below.is_empty() {
            map.remove(name);
            continue;
        }
        let Some(value) = map.get_mut(name) else { continue };
        remove(value, below_gone, kept_below, &below(field, name));
        let is_empty =
            value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if is_empty && kept_below.is_empty() {
            map.remove(name);
        }
    }
}

/// A null in a configuration says nothing.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Makes a recorded set one of the schema as it is now: what has become one field since is owned as one. Else the parts
/// that nobody names any more would be taken out of it.
pub(super) fn fit(set: &mut FieldSet, field: &PatchField) {
    let mut elements = set.children.keys();
    let divided = match field.ownership {
        Ownership::Atomic => false,
        Ownership::Default => !elements.any(|element| is_list_element(element)),
        Ownership::Set | Ownership::Map(_) => true,
    };
    if !divided && !set.children.is_empty() {
        *set = FieldSet::leaf();
    }
    for (element, fields) in &mut set.children {
        match element.strip_prefix("f:") {
            Some(name) => fit(fields, &below(field, name)),
            None => fit(fields, &element_field(field)),
        }
    }
}

/// What a part of an object has that no part may have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unfit {
    /// Lists and maps that are owned as a whole.
    pub(super) whole: Vec<String>,
    /// Fields that the schema does not know.
    pub(super) undeclared: Vec<String>,
}

/// Looks for them: `.spec.containers[0].args`.
pub(super) fn unfit(part: &Value, field: &PatchField) -> Unfit {
    let mut found = Unfit::default();
    collect_unfit(part, field, "", &mut found);
    found
}

fn collect_unfit(value: &Value, field: &PatchField, path: &str, found: &mut Unfit) {
    match value {
        Value::Object(map) => {
            if field.ownership == Ownership::Atomic {
                found.whole.push(path.to_owned());
            }
            for (name, value) in map {
                let path = format!("{path}.{name}");
                match field.child.as_ref().map(|schema| schema.field(name)) {
                    Some(None) => found.undeclared.push(path),
                    known => collect_unfit(value, &known.flatten().unwrap_or_default(), &path, found),
                }
            }
        }
        Value::Array(items) => {
            if matches!(field.ownership, Ownership::Atomic | Ownership::Default) {
                found.whole.push(path.to_owned());
            }
            for (index, item) in items.iter().enumerate() {
                collect_unfit(item, &element_field(field), &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Elements of lists that are the same to whoever owns them: `.spec.ports: duplicate entries for key [port=80]`.
pub(super) fn duplicates(value: &Value, field: &PatchField) -> Vec<String> {
    let mut found = Vec::new();
    collect_duplicates(value, field, "", &mut found);
    found
}

fn collect_duplicates(value: &Value, field: &PatchField, path: &str, found: &mut Vec<String>) {
    let Parts::Elements(elements) = divide(value, field) else { return };
    let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
    for (element, value, field) in &elements {
        let shown = readable(element);
        if is_list_element(element) && !seen.insert(element) && told.insert(element) {
            let key = shown.trim_start_matches('[').trim_end_matches(']');
            found.push(format!("{path}: duplicate entries for key [{key}]"));
        }
        collect_duplicates(value, field, &format!("{path}{shown}"), found);
    }
}
