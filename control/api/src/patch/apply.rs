//! Server-side apply: a client sends the fields it has an opinion about; the server merges them, remembers who owns
//! which field (`metadata.managedFields`), refuses to take fields from others unless forced, and removes what the
//! client no longer mentions and nobody else owns.
//!
//! Writes by other verbs are recorded as well ([`record`]): whoever changes a field owns it.

use super::field_set::FieldSet;
use super::{PatchField, PatchSchema};
use crate::StatusCause;
use serde_json::Value;
use std::sync::Arc;

mod client_side;
mod managed;
mod walk;
mod window;

pub use client_side::LAST_APPLIED;
use managed::{Entry, Operation};
pub use window::Window;

/// Who writes, how and when.
#[derive(Debug, Clone)]
pub struct Writer {
    /// `fieldManager`
    pub manager: String,
    /// Of the object as the client sent it.
    pub api_version: String,
    /// `status`; empty for the main object.
    pub subresource: String,
    /// RFC 3339.
    pub time: String,
}

/// Fields that others own and that the client wants to change: the message of the 409, and its causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas`
    pub message: String,
    /// One for each field.
    pub causes: Vec<StatusCause>,
}

fn root(schema: Option<Arc<dyn PatchSchema>>) -> PatchField {
    PatchField { child: schema, ..PatchField::default() }
}

/// What identifies an object, and what only the server sets: nobody owns these.
const UNOWNED: [&str; 10] = [
    "deletionGracePeriodSeconds",
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
];

/// The object without the fields that nobody owns.
fn owned_part(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| !UNOWNED.contains(&name.as_str()));
            if metadata.is_empty() {
                fields.remove("metadata");
            }
        }
    }
    object
}

/// Applies `config` to `live` (null where there is no object yet).
pub fn apply(
    live: &Value,
    config: &Value,
    writer: &Writer,
    force: bool,
    schema: Option<Arc<dyn PatchSchema>>,
) -> Result<Value, Conflict> {
    let field = root(schema);
    let mut config = config.clone();
    walk::drop_nulls(&mut config);
    // An empty configuration wants nothing, not an empty object.
    let wanted = FieldSet { member: false, ..walk::fields_of(&owned_part(&config), &field) };
    let mut entries = managed::read(live);
    entries.iter_mut().for_each(|entry| walk::fit(&mut entry.fields, &field));
    // What is there and nobody's was so before anybody applied.
    if entries.is_empty() {
        let present = walk::compare_owned(&Value::Null, live, &field, &UNOWNED).changed;
        let nobody =
            Writer { manager: "before-first-apply".to_owned(), subresource: String::new(), ..writer.clone() };
        entries.push(Entry::new(&nobody, Operation::Update, present));
    }
    let is_own = |entry: &Entry| {
        entry.operation == Operation::Apply
            && entry.manager == writer.manager
            && entry.subresource == writer.subresource
    };
    let before =
        entries.iter().find(|entry| is_own(entry)).map(|entry| entry.fields.clone()).unwrap_or_default();
    let mut merged = walk::merge(live, &config, &field);
    let changed = walk::compare_owned(live, &merged, &field, &UNOWNED).changed;
    let free = if force { changed.clone() } else { client_side::fields(live, writer, &field) };
    take_from_others(&mut entries, &changed, &free, is_own)?;
    let others = entries.iter().filter(|entry| !is_own(entry));
    let kept = others.fold(wanted.clone(), |kept, entry| kept.union(&entry.fields));
    walk::remove(&mut merged, &before.difference(&kept), &kept, &field);
    let unchanged = before == wanted;
    entries.retain(|entry| !is_own(entry) || unchanged);
    if !unchanged || before.is_empty() {
        entries.push(Entry::new(writer, Operation::Apply, wanted));
    }
    managed::write(&mut merged, entries);
    Ok(merged)
}

/// `live` with every field that `part` has: what a policy of the cluster adds, owned by nobody of its own. `part` may not
/// change what is owned as a whole, because what it leaves out would be lost; where a schema says all there is to know of
/// the fields (`declared`), it may name no others.
pub fn overlay(
    live: &Value,
    part: &Value,
    schema: Option<Arc<dyn PatchSchema>>,
    declared: bool,
) -> Result<Value, String> {
    let field = root(schema);
    let found = walk::unfit(part, &field);
    if let (true, Some(path)) = (declared, found.undeclared.first()) {
        return Err(format!(
            "failed to convert patch object to typed object: {path}: field not declared in schema"
        ));
    }
    if !found.whole.is_empty() {
        let paths = found.whole.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"
        ));
    }
    Ok(walk::merge(live, part, &field))
}

/// What makes an apply configuration ambiguous: elements of its lists that are one to their owners.
pub fn ambiguities(config: &Value, schema: Option<Arc<dyn PatchSchema>>) -> Vec<String> {
    walk::duplicates(&owned_part(config), &root(schema))
}

/// Fields that this apply changes leave their owners; those that are not free for it are a conflict.
fn take_from_others(
    entries: &mut [Entry],
    changed: &FieldSet,
    free: &FieldSet,
    is_own: impl Fn(&Entry) -> bool,
) -> Result<(), Conflict> {
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !is_own(entry)) {
        let taken = entry.fields.intersection(changed);
        let held = taken.difference(free);
        entry.fields = entry.fields.difference(&taken);
        let owner = entry.describe();
        conflicts.extend(held.paths().into_iter().map(|path| (owner.clone(), path)));
    }
    if conflicts.is_empty() { Ok(()) } else { Err(conflict(&conflicts)) }
}

fn conflict(conflicts: &[(String, String)]) -> Conflict {
    let cause = |(owner, path): &(String, String)| StatusCause {
        reason: "FieldManagerConflict".to_owned(),
        message: format!("conflict with {owner}"),
        field: path.clone(),
    };
    let message = if let [(owner, path)] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {owner}: {path}")
    } else {
        let mut text = format!("Apply failed with {} conflicts: ", conflicts.len());
        let mut owners: Vec<&str> = conflicts.iter().map(|(owner, _)| owner.as_str()).collect();
        owners.dedup();
        let of = |owner: &str| {
            let paths =
                conflicts.iter().filter(|(other, _)| other == owner).map(|(_, path)| format!("\n- {path}"));
            format!("conflicts with {owner}:{}", paths.collect::<String>())
        };
        text.push_str(&owners.into_iter().map(of).collect::<Vec<_>>().join("\n"));
        text
    };
    Conflict { message, causes: conflicts.iter().map(cause).collect() }
}

/// Records a write by any other verb: what changed between `old` (null for a new object) and `new` is the writer's.
pub fn record(old: &Value, new: &mut Value, writer: &Writer, schema: Option<Arc<dyn PatchSchema>>) {
    let field = root(schema);
    let difference = walk::compare_owned(old, new, &field, &UNOWNED);
    if difference.changed.is_empty() && difference.removed.is_empty() {
        return;
    }
    let gone = difference.changed.union(&difference.removed);
    let is_own = |entry: &Entry| {
        entry.operation == Operation::Update
            && entry.manager == writer.manager
            && entry.subresource == writer.subresource
            && entry.api_version == writer.api_version
    };
    let mut entries = managed::read(new);
    let own =
        entries.iter().find(|entry| is_own(entry)).map(|entry| entry.fields.clone()).unwrap_or_default();
    entries.retain(|entry| !is_own(entry));
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&gone);
    }
    let fields = own.union(&difference.changed).difference(&difference.removed);
    entries.push(Entry::new(writer, Operation::Update, fields));
    managed::write(new, entries);
}

/// Whether two objects differ in nothing but the times at which fields were written.
pub fn same_but_times(one: &Value, other: &Value) -> bool {
    let same_entries = |one: &Value, other: &Value| match (one.as_array(), other.as_array()) {
        (Some(one), Some(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| same_but(one, other, &["time"]))
        }
        _ => one == other,
    };
    let (own, others) = (&one["metadata"], &other["metadata"]);
    same_but(one, other, &["metadata"])
        && same_but(own, others, &["managedFields", "resourceVersion"])
        && same_entries(&own["managedFields"], &others["managedFields"])
}

/// Whether two objects are the same but for some fields.
fn same_but(one: &Value, other: &Value, but: &[&str]) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let counted = |name: &&String| !but.contains(&name.as_str());
    one.keys().filter(counted).count() == other.keys().filter(counted).count()
        && one.iter().filter(|(name, _)| counted(name)).all(|(name, value)| other.get(name) == Some(value))
}

#[cfg(test)]
mod tests;
