//! Reading an object that a client sent: every value must have the type that the schema of its kind says, unknown
//! fields are found and dropped, quantities and times get their canonical form.
//!
//! Messages are those of Kubernetes' own decoder, because people and tools search for them.

mod restore;

use super::duplicates::Written;
use super::types::{self, ObjectType, Type};
use super::{go_types, structural};
use jiff::Timestamp;
use knarr_api::quantity::{Quantity, QuantityError};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// What to do about fields that the schema does not know (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Refuse the object.
    Strict,
    /// Drop them and warn.
    #[default]
    Warn,
    /// Drop them silently.
    Ignore,
}

/// An object as its kind has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Without unknown fields.
    pub object: Value,
    /// For `Warning` headers: `unknown field "spec.foo"`.
    pub warnings: Vec<String>,
}

/// Why an object was refused; becomes a 400 BadRequest with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} in version {version:?} cannot be handled as a {kind}: {detail}")]
pub struct DecodeError {
    kind: String,
    version: String,
    detail: String,
    /// The same fault in the words for what a strategic merge patch made.
    restored: Option<String>,
}

impl DecodeError {
    /// The fault itself.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fault of what a strategic merge patch made.
    pub fn restored(&self) -> &str {
        self.restored.as_deref().unwrap_or(&self.detail)
    }
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Longest object path that is followed: no type of Kubernetes is that deep, but a hostile body is.
const DEEPEST: usize = 128;

/// Checks `object` against the schema of its kind. Fields that occur twice in what was written are judged like unknown
/// ones. A kind without a schema passes unchanged.
pub fn decode(
    group: &str,
    version: &str,
    kind: &str,
    object: Value,
    written: Written<'_>,
    strictness: Strictness,
) -> Result<Decoded, DecodeError> {
    let wanted = Wanted { kind, version };
    let mut object = object;
    let mut walk = Walk::default();
    if let Some(root) = types::of_kind(group, version, kind) {
        walk.object(&mut object, &root).map_err(|fault| wanted.fault(fault, walk.restored.take()))?;
    }
    wanted.judged(object, written.with(walk.unknown), strictness)
}

/// The same for a custom resource: unknown fields are those that its structural `schema` does not have; metadata is that
/// of every object.
pub fn decode_custom(
    version: &str,
    kind: &str,
    schema: &Value,
    object: Value,
    written: Written<'_>,
    strictness: Strictness,
) -> Result<Decoded, DecodeError> {
    let wanted = Wanted { kind, version };
    let mut object = object;
    let mut walk = Walk {
        path: "metadata".to_owned(),
        names: vec!["metadata".into()],
        unknown: written.faults(),
        ..Walk::default()
    };
    // Every kind brings the type of its metadata along.
    types::of_kind("", "v1", "Namespace");
    if let (Some(meta), Some(metadata)) = (types::named(OBJECT_META), object.get_mut("metadata")) {
        walk.object(metadata, &meta).map_err(|fault| wanted.fault(fault, walk.restored.take()))?;
    }
    walk.unknown.extend(unknown_below(schema, &mut object));
    walk.unknown.extend(structural::prune(schema, &mut object));
    wanted.judged(object, walk.unknown, strictness)
}

/// What no metadata has, in objects that the schema embeds.
fn unknown_below(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let Some(meta) = types::named(OBJECT_META) else { return unknown };
    structural::each_embedded(schema, object, "", 0, &mut |path, metadata| {
        let mut walk = Walk { path: path.to_owned(), ..Walk::default() };
        // One of a wrong type is refused by the schema.
        if walk.object(metadata, &meta).is_ok() {
            unknown.append(&mut walk.unknown);
        }
    });
    unknown
}

/// What an object is to be, for messages.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    kind: &'a str,
    version: &'a str,
}

impl Wanted<'_> {
    fn fault(self, detail: String, restored: Option<String>) -> DecodeError {
        let (kind, version) = (self.kind.to_owned(), self.version.to_owned());
        DecodeError { kind, version, detail, restored }
    }

    /// What becomes of an object that had these unknown fields.
    fn judged(
        self,
        object: Value,
        unknown: Vec<String>,
        strictness: Strictness,
    ) -> Result<Decoded, DecodeError> {
        match strictness {
            Strictness::Strict if !unknown.is_empty() => {
                Err(self.fault(format!("strict decoding error: {}", unknown.join(", ")), None))
            }
            Strictness::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
            _ => Ok(Decoded { object, warnings: unknown }),
        }
    }
}

/// One pass over an object.
#[derive(Default)]
struct Walk {
    /// `spec.containers[0].name`, for unknown fields.
    path: String,
    /// `spec`, `containers`, `name`, for wrong types.
    names: Vec<Box<str>>,
    unknown: Vec<String>,
    depth: usize,
    /// The fault that was found in the words for what a strategic merge patch made.
    restored: Option<String>,
}

/// Where a value stands: the Go type that has it as a field, for messages.
struct Place<'a> {
    owner: &'a str,
}

impl Walk {
    fn object(&mut self, value: &mut Value, kind: &ObjectType) -> Result<(), String> {
        let Value::Object(map) = value else {
            return Err(format!(
                "json: cannot unmarshal {} into Go value of type {}",
                found(value),
                go_types::of_object(&kind.name)
            ));
        };
        self.fields(map, kind)
    }

    fn fields(&mut self, map: &mut Map<String, Value>, kind: &ObjectType) -> Result<(), String> {
        let mut dropped: Vec<String> = Vec::new();
        for (name, value) in map.iter_mut() {
            let Some(field) = kind.field(name) else {
                dropped.push(name.clone());
                continue;
            };
            if value.is_null() {
                dropped.push(name.clone());
                continue;
            }
            let before = self.enter(name);
            self.value(value, &field.kind, &Place { owner: kind.short_name() })?;
            self.leave(before);
        }
        for name in dropped {
            if kind.field(&name).is_none() {
                let separator = if self.path.is_empty() { "" } else { "." };
                self.unknown.push(format!("unknown field \"{}{separator}{name}\"", self.path));
            }
            map.remove(&name);
        }
        Ok(())
    }

    fn value(&mut self, value: &mut Value, kind: &Type, place: &Place<'_>) -> Result<(), String> {
        match (kind, &mut *value) {
            (Type::Free | Type::SchemaOr(_), _)
            | (Type::Text, Value::String(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Number, Value::Number(_)) => Ok(()),
            (Type::Bytes, Value::String(text)) => base64(text),
            (Type::Int32, Value::Number(number))
                if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
            {
                Ok(())
            }
            (Type::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
            (Type::IntOrString, Value::String(_)) => Ok(()),
            (Type::IntOrString, Value::Number(number)) if number.is_i64() => Ok(()),
            (Type::Quantity, Value::String(_) | Value::Number(_)) => quantity(value),
            (Type::Quantity, _) => Err(QuantityError::Form.to_string()),
            (Type::Time, Value::String(text)) => time(text, 0),
            (Type::MicroTime, Value::String(text)) => time(text, 6),
            (Type::List(kind), Value::Array(items)) => self.list(items, kind, place),
            (Type::Map(kind), Value::Object(map)) => self.map(map, kind, place),
            (Type::Object(name), Value::Object(map)) => self.nested(map, name),
            _ => Err(self.mismatch(value, kind, place)),
        }
    }

    fn nested(&mut self, map: &mut Map<String, Value>, name: &str) -> Result<(), String> {
        let Some(kind) = types::named(name) else { return Ok(()) };
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("json: exceeded max depth".to_owned());
        }
        self.fields(map, &kind)?;
        self.depth -= 1;
        Ok(())
    }

    fn list(&mut self, items: &mut [Value], kind: &Type, place: &Place<'_>) -> Result<(), String> {
        let length = self.path.len();
        for (index, item) in items.iter_mut().enumerate() {
            if item.is_null() {
                *item = zero(kind);
            }
            let _ = write!(self.path, "[{index}]");
            self.value(item, kind, place)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn map(&mut self, map: &mut Map<String, Value>, kind: &Type, place: &Place<'_>) -> Result<(), String> {
        for (key, item) in map.iter_mut() {
            if item.is_null() {
                *item = zero(kind);
            }
            let before = self.path.len();
            let _ = write!(self.path, "[{key}]");
            self.value(item, kind, place)?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn enter(&mut self, name: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        self.names.push(name.into());
        before
    }

    fn leave(&mut self, before: usize) {
        self.path.truncate(before);
        self.names.pop();
    }

    fn mismatch(&mut self, value: &Value, kind: &Type, place: &Place<'_>) -> String {
        self.restored = restore::words(value, kind);
        let field = self.names.join(".");
        let (found, owner, wanted) = (found(value), place.owner, go_types::of_kind(kind));
        format!("json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {wanted}")
    }
}

/// What Go has where JSON has null.
fn zero(kind: &Type) -> Value {
    match kind {
        Type::Text | Type::Bytes | Type::IntOrString => "".into(),
        Type::Quantity => "0".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Number => 0.into(),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Map(_) | Type::Object(_) => Value::Object(Map::new()),
        Type::Free | Type::SchemaOr(_) | Type::Time | Type::MicroTime => Value::Null,
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Go names the digits only where the number itself is the trouble.
        Value::Number(number) if number.is_i64() => "number".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

fn base64(text: &str) -> Result<(), String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() / 4 * 4)),
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match &mut *value {
        Value::String(text) if text.is_empty() => "0".to_owned(),
        Value::String(text) => std::mem::take(text),
        other => other.to_string(),
    };
    *value = text.parse::<Quantity>().map_err(|error| error.to_string())?.to_string().into();
    Ok(())
}

fn time(text: &mut String, digits: usize) -> Result<(), String> {
    let parsed: Timestamp = text.parse().map_err(|_| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })?;
    *text = if digits == 0 { format!("{parsed:.0}") } else { format!("{parsed:.6}") };
    Ok(())
}

#[cfg(test)]
mod tests;
