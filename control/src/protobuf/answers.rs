//! Answers in protobuf: an object, a list, the event of a watch.
//!
//! Clients in Go (kubelets, controllers, kubectl) ask for it first. Custom resources have no message, as in
//! Kubernetes.

use super::{MAGIC, write};
use crate::schema::types;
use serde_json::{Map, Value};

const META: &str = "meta.k8s.io/";
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Whether objects of the kind can be written.
pub(crate) fn speaks(group: &str, version: &str, kind: &str) -> bool {
    types::of_kind(group, version, kind).is_some()
}

/// A whole answer of one object; `None` for kinds that have no message.
pub(crate) fn encode(object: &Value) -> Option<Vec<u8>> {
    let (api_version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    has_message(api_version, kind).then(|| envelope(api_version, kind, |out| message(out, object)))
}

/// A whole answer of many objects: `metadata` is that of the list.
pub(crate) fn list(api_version: &str, kind: &str, metadata: &Value, items: &[Vec<u8>]) -> Vec<u8> {
    envelope(api_version, kind, |out| {
        write::nested(out, 1, |out| list_metadata(out, metadata));
        items.iter().for_each(|item| write::bytes(out, 2, item));
    })
}

/// One item of a list: the message alone.
pub(crate) fn item(object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, object);
    out
}

/// One event of a watch, with its length before it: `kind` is ADDED, MODIFIED, ...
pub(crate) fn event(kind: &str, object: &Value) -> Option<Vec<u8>> {
    let object = encode(object)?;
    let mut event = vec![0; 4];
    write::bytes(&mut event, 1, kind.as_bytes());
    // `runtime.RawExtension`
    write::nested(&mut event, 2, |out| write::bytes(out, 1, &object));
    let length = u32::try_from(event.len() - 4).ok()?;
    event[..4].copy_from_slice(&length.to_be_bytes());
    Some(event)
}

fn envelope(api_version: &str, kind: &str, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    write::nested(&mut out, 1, |out| {
        write::bytes(out, 1, api_version.as_bytes());
        write::bytes(out, 2, kind.as_bytes());
    });
    write::nested(&mut out, 2, write);
    out
}

fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn has_message(api_version: &str, kind: &str) -> bool {
    let (group, version) = split(api_version);
    is_metadata(api_version, kind) || speaks(group, version, kind)
}

fn is_metadata(api_version: &str, kind: &str) -> bool {
    api_version.starts_with(META) && kind == "PartialObjectMetadata"
}

fn message(out: &mut Vec<u8>, object: &Value) {
    let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let (Some(api_version), Some(kind), Some(fields)) = (api_version, kind, object.as_object()) else {
        return;
    };
    let (group, version) = split(api_version);
    if is_metadata(api_version, kind) {
        write::nested(out, 1, |out| metadata(out, &object["metadata"]));
    } else if let Some(kind) = types::of_kind(group, version, kind) {
        write::object(out, &kind, fields);
    }
}

/// Every kind brings the type of metadata in.
fn metadata(out: &mut Vec<u8>, found: &Value) {
    let known = types::of_kind("", "v1", "ConfigMap").and_then(|_| types::named(METADATA));
    if let (Some(kind), Some(fields)) = (known, found.as_object()) {
        write::object(out, &kind, fields);
    }
}

/// `meta.k8s.io/v1 ListMeta`
fn list_metadata(out: &mut Vec<u8>, metadata: &Value) {
    let empty = Map::new();
    let fields = metadata.as_object().unwrap_or(&empty);
    for (number, name) in [(2, "resourceVersion"), (3, "continue")] {
        if let Some(text) = fields.get(name).and_then(Value::as_str) {
            write::bytes(out, number, text.as_bytes());
        }
    }
    if let Some(remaining) = fields.get("remainingItemCount").and_then(Value::as_i64) {
        write::integer(out, 4, remaining);
    }
}
