//! Stored objects and their changes, as encoded bytes that are made once and shared by everyone who reads them.

use super::{Fields, Revision, index};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// An object that waits for its revision: encoded once, with a gap where `metadata.resourceVersion` goes.
#[derive(Debug, Clone)]
pub struct Draft {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// What the store's index would have to decode it for.
    indexed: Option<Box<str>>,
}

/// What stands before the revision.
const GAP: &[u8] = br#""metadata":{"resourceVersion":""#;

impl Draft {
    /// Encodes `object`; a `resourceVersion` in it is dropped.
    pub fn of(object: &Value) -> Self {
        let empty = serde_json::Map::new();
        let fields = object.as_object().unwrap_or(&empty);
        let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        Self { indexed: index::value_of(object), ..Self::assemble(&by_name(fields), &by_name(metadata)) }
    }

    /// The same of an object that is encoded but for some of its fields; `indexed` is the value of the field that its kind is indexed by.
    pub(crate) fn of_fields(object: &Fields<'_>, indexed: Option<&str>) -> Self {
        let metadata = object.inner("metadata");
        let (fields, metadata): (Vec<_>, Vec<_>) = (object.iter().collect(), metadata.iter().collect());
        Self { indexed: indexed.map(Into::into), ..Self::assemble(&fields, &metadata) }
    }

    fn assemble<V: Serialize + ?Sized>(fields: &[(&str, &V)], metadata: &[(&str, &V)]) -> Self {
        let mut head = vec![b'{'];
        for wanted in ["kind", "apiVersion"] {
            if let Some((name, value)) = fields.iter().find(|(name, _)| *name == wanted) {
                field(&mut head, name, value);
                head.push(b',');
            }
        }
        head.extend_from_slice(GAP);
        let mut tail = vec![b'"'];
        for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
            tail.push(b',');
            field(&mut tail, name, value);
        }
        tail.push(b'}');
        let rest = fields.iter().filter(|(name, _)| !matches!(*name, "kind" | "apiVersion" | "metadata"));
        for (name, value) in rest {
            tail.push(b',');
            field(&mut tail, name, value);
        }
        tail.push(b'}');
        Self { head, tail, indexed: None }
    }

    /// The object with its revision filled in.
    pub fn seal(&self, revision: Revision) -> Bytes {
        let number = revision.to_string();
        let mut bytes = Vec::with_capacity(self.head.len() + number.len() + self.tail.len());
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(number.as_bytes());
        bytes.extend_from_slice(&self.tail);
        bytes.into()
    }

    /// The object with an empty revision, for stores that know it only afterwards.
    pub(super) fn seal_without_revision(&self) -> Vec<u8> {
        [&self.head[..], &self.tail].concat()
    }

    /// Back from [`Self::seal_without_revision`].
    pub(super) fn unsealed(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(GAP.len()).position(|window| window == GAP)? + GAP.len();
        let (head, tail) = bytes.split_at_checked(at)?;
        Some(Self { head: head.to_vec(), tail: tail.to_vec(), indexed: None })
    }

    /// Encoded length without the revision.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Never: even an empty object has a frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn by_name(map: &serde_json::Map<String, Value>) -> Vec<(&str, &Value)> {
    map.iter().map(|(name, value)| (name.as_str(), value)).collect()
}

fn field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    // Writing JSON values into memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, name);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}

/// One object as stored.
pub struct Entry {
    /// `GROUP/RESOURCE/[NAMESPACE/]NAME`
    pub key: Arc<str>,
    /// Of the write that made this state.
    pub revision: Revision,
    /// The object as JSON, its `resourceVersion` included.
    pub value: Bytes,
    labels: OnceLock<HashMap<String, String>>,
    /// What selectors asked of this object so far. Short sections without await.
    fields: Mutex<Vec<(Box<str>, Box<str>)>>,
}

impl Entry {
    /// An entry as read or written.
    pub fn new(key: Arc<str>, revision: Revision, value: Bytes) -> Self {
        Self { key, revision, value, labels: OnceLock::new(), fields: Mutex::default() }
    }

    /// The entry that a draft has become.
    pub(super) fn of(key: Arc<str>, revision: Revision, draft: Draft) -> Self {
        let entry = Self::new(key, revision, draft.seal(revision));
        match draft.indexed {
            Some(value) => Self { fields: Mutex::new(vec![(index::REMEMBERED.into(), value)]), ..entry },
            None => entry,
        }
    }

    /// The decoded object. Stored bytes are always valid JSON; anything else reads as null.
    pub fn object(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or_default()
    }

    /// A label, decoded once however many selectors ask.
    pub fn label(&self, key: &str) -> Option<&str> {
        #[derive(Default, Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        struct Metadata {
            #[serde(default)]
            labels: HashMap<String, String>,
        }
        let decode = || serde_json::from_slice::<Object>(&self.value).unwrap_or_default().metadata.labels;
        self.labels.get_or_init(decode).get(key).map(String::as_str)
    }

    /// The value of a selectable field, computed once by `compute`.
    pub fn field(&self, name: &str, compute: impl FnOnce(&Value) -> String) -> Box<str> {
        self.remembered(name, || compute(&self.object()))
    }

    /// What `compute` says of this object under `name`, asked once.
    pub(super) fn remembered(&self, name: &str, compute: impl FnOnce() -> String) -> Box<str> {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = fields.iter().find(|(known, _)| &**known == name) {
            return value.clone();
        }
        let value: Box<str> = compute().into();
        fields.push((name.into(), value.clone()));
        value
    }

    /// The encoded object without the owners of its fields, in two pieces.
    pub(crate) fn without_owners(&self) -> (&[u8], &[u8]) {
        match super::owners::span(&self.value) {
            Some(span) => (&self.value[..span.start], &self.value[span.end..]),
            None => (&self.value, &[]),
        }
    }

    /// The metadata, encoded.
    pub(crate) fn metadata(&self) -> Option<&[u8]> {
        super::owners::metadata(&self.value)
    }

    /// `metadata.name`, from the key.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.key, self.revision)
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It came to be.
    Added,
    /// Its value changed.
    Modified,
    /// It is gone; the event carries its final state.
    Deleted,
}

impl EventKind {
    /// `type` of a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new state; of a deleted object its last one, at the revision of the deletion.
    pub entry: Arc<Entry>,
    /// The state before.
    pub previous: Option<Arc<Entry>>,
    message: OnceLock<Bytes>,
}

impl Event {
    /// A change as the writer publishes it.
    pub fn new(kind: EventKind, entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Self {
        Self { kind, entry, previous, message: OnceLock::new() }
    }

    /// Of the write.
    pub fn revision(&self) -> Revision {
        self.entry.revision
    }

    /// The event in another encoding than the stored one, made by the first watcher that wants it; nothing where `encode` cannot.
    pub fn message(&self, encode: impl FnOnce(&str, &Value) -> Option<Vec<u8>>) -> Bytes {
        let make = || encode(self.kind.as_str(), &self.entry.object()).unwrap_or_default().into();
        self.message.get_or_init(make).clone()
    }
}

/// Appends the line of a watch response about an encoded object, which may come in pieces.
pub(crate) fn write_frame(line: &mut Vec<u8>, kind: EventKind, object: &[&[u8]]) {
    line.extend_from_slice(br#"{"type":""#);
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(br#"","object":"#);
    object.iter().for_each(|piece| line.extend_from_slice(piece));
    line.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_goes_where_the_client_looks_for_it() {
        let object = json!({"spec": {"a": 1}, "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "p", "resourceVersion": "stale"}});
        let sealed: Value = serde_json::from_slice(&Draft::of(&object).seal(42)).unwrap();
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("42");
        assert_eq!(sealed, expected);
        let bare: Value = serde_json::from_slice(&Draft::of(&json!({})).seal(7)).unwrap();
        assert_eq!(bare, json!({"metadata": {"resourceVersion": "7"}}));
    }

    #[test]
    fn labels_and_fields_come_from_the_object() {
        let value =
            json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"nodeName": "n"}}).to_string();
        let entry = Entry::new("core/pods/ns/p".into(), 1, value.into());
        assert_eq!((entry.label("a"), entry.label("c"), entry.name()), (Some("b"), None, "p"));
        let node = |object: &Value| object["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        assert_eq!(&*entry.field("spec.nodeName", node), "n");
        assert_eq!(&*entry.field("spec.nodeName", |_| unreachable!("computed once")), "n");
    }
}
