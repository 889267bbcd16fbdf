//! Where the objects of a resource are kept, and the way between their stored and their served version.

use super::ResourcePath;
use crate::registry::Resource;
use crate::store::{Entry, StoreError};
use bytes::Bytes;
use knarr_api::Status;
use serde_json::Value;

/// `GROUP/RESOURCE/`
pub(crate) fn resource_prefix(resource: &Resource) -> String {
    let (group, plural) = match &resource.stored_as {
        Some(stored) => (&*stored.row.0, &*stored.row.2),
        None => (&*resource.group, &*resource.plural),
    };
    format!("{}/{plural}/", if group.is_empty() { "core" } else { group })
}

/// The prefix of a list: the resource, or one namespace of it.
pub(crate) fn prefix(resource: &Resource, path: &ResourcePath) -> String {
    match &path.namespace {
        Some(namespace) => format!("{}{namespace}/", resource_prefix(resource)),
        None => resource_prefix(resource),
    }
}

/// The key of one object.
pub(crate) fn key(resource: &Resource, namespace: &str, name: &str) -> String {
    let prefix = resource_prefix(resource);
    if resource.namespaced { format!("{prefix}{namespace}/{name}") } else { format!("{prefix}{name}") }
}

/// A stored object in the version of `resource`.
pub(crate) fn served(resource: &Resource, object: Value) -> Value {
    match &resource.stored_as {
        Some(stored) => (stored.from_stored)(object),
        None => object,
    }
}

/// An object of the version of `resource` as it is stored.
pub(crate) fn to_stored(resource: &Resource, object: Value) -> Value {
    match &resource.stored_as {
        Some(stored) => (stored.to_stored)(object),
        None => object,
    }
}

/// An entry, decoded, in the version of `resource`.
pub(crate) fn decode(resource: &Resource, entry: &Entry) -> Value {
    served(resource, entry.object())
}

/// An entry, encoded, in the version of `resource`: the stored bytes themselves wherever that is possible.
pub(crate) fn encoded(resource: &Resource, entry: &Entry) -> Bytes {
    match resource.stored_as {
        // Entries of custom resources come in the right version (`versions.rs`).
        Some(_) if resource.custom.is_none() => decode(resource, entry).to_string().into(),
        _ => entry.value.clone(),
    }
}

/// The answer to a store operation on one object that had no effect.
pub(crate) fn refusal(resource: &Resource, name: &str, error: StoreError) -> Status {
    let (group, plural) = (&resource.group, &resource.plural);
    match error {
        StoreError::Exists => Status::already_exists(group, plural, name),
        StoreError::NotFound => Status::not_found(group, plural, name),
        StoreError::Conflict => Status::modified(group, plural, name),
        StoreError::Compacted { .. } => Status::expired(error.to_string()),
        StoreError::Future { .. } => {
            let message = format!("Timeout: {error}");
            let mut status =
                Status::timeout(message).with_cause("ResourceVersionTooLarge", "Too large resource version");
            status.details.retry_after_seconds = Some(1);
            status
        }
        StoreError::Unavailable(why) => Status::internal(why),
    }
}
