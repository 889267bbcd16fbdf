//! From JSON to the message that Go would read: the way of `message.rs` backwards, by the same types and numbers.
//!
//! What the JSON does not have is not on the wire either: Go reads its zero value then. A length is known only when
//! what it measures has been written, so each nested message is written first and its length moved before it.

use super::schema_or;
use crate::schema::types::{self, ObjectType, Type};
use crate::schema::{embedded, wire_layout};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Wire type of numbers.
const VARINT: u8 = 0;
/// Wire type of 64-bit floats.
const FIXED64: u8 = 1;
/// Wire type of everything that has a length.
const BYTES: u8 = 2;

/// Appends the message of an object type.
pub(super) fn object(out: &mut Vec<u8>, kind: &ObjectType, object: &Map<String, Value>) {
    fields(out, kind, &kind.name, object);
}

/// Appends a field with a length: whatever `write` appends.
pub(super) fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, number, BYTES);
    let start = out.len();
    write(out);
    let length = out.len() - start;
    let mut prefix = Vec::with_capacity(10);
    varint(&mut prefix, length as u64);
    out.extend_from_slice(&prefix);
    out[start..].rotate_right(prefix.len());
}

/// Appends bytes with their length.
pub(super) fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    key(out, number, BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `layout` is the message whose field numbers count: the type's own, or one that it embeds.
fn fields(out: &mut Vec<u8>, kind: &ObjectType, layout: &str, object: &Map<String, Value>) {
    for fact in wire_layout(layout) {
        if let Some(inner) = fact.name.strip_prefix('@') {
            if let Some(inner) = embedded(layout, inner) {
                nested(out, fact.number, |out| fields(out, kind, &inner, object));
            }
            continue;
        }
        if let (Some(field), Some(value)) = (kind.field(fact.name), object.get(fact.name)) {
            field_of(out, fact.number, &field.kind, value);
        }
    }
}

fn field_of(out: &mut Vec<u8>, number: u32, kind: &Type, found: &Value) {
    match (kind, found) {
        (_, Value::Null) => {}
        (Type::List(item), Value::Array(items)) => {
            items.iter().for_each(|found| value(out, number, item, found));
        }
        (Type::Map(values), Value::Object(entries)) => {
            for (name, found) in entries {
                nested(out, number, |out| {
                    bytes(out, 1, name.as_bytes());
                    value(out, 2, values, found);
                });
            }
        }
        (kind, found) => value(out, number, kind, found),
    }
}

/// One value. What does not fit its type cannot have come into the store, and is left out.
fn value(out: &mut Vec<u8>, number: u32, kind: &Type, found: &Value) {
    match (kind, found) {
        (Type::Text, Value::String(text)) => bytes(out, number, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            bytes(out, number, &STANDARD.decode(text).unwrap_or_default());
        }
        (Type::Bool, Value::Bool(flag)) => integer(out, number, i64::from(*flag)),
        (Type::Int32 | Type::Int64, Value::Number(found)) => {
            integer(out, number, found.as_i64().unwrap_or_default());
        }
        (Type::Number, Value::Number(found)) => {
            key(out, number, FIXED64);
            out.extend_from_slice(&found.as_f64().unwrap_or_default().to_le_bytes());
        }
        (Type::Quantity, Value::String(text)) => nested(out, number, |out| bytes(out, 1, text.as_bytes())),
        (Type::Quantity, Value::Number(found)) => {
            nested(out, number, |out| bytes(out, 1, found.to_string().as_bytes()));
        }
        (Type::IntOrString, found) => nested(out, number, |out| int_or_string(out, found)),
        (Type::Time | Type::MicroTime, Value::String(text)) => nested(out, number, |out| time(out, text)),
        (Type::Free, found) => nested(out, number, |out| bytes(out, 1, found.to_string().as_bytes())),
        (Type::SchemaOr(instead), found) => {
            nested(out, number, |out| schema_or::write(out, *instead, found));
        }
        // A list that is the value of a map has a message around it.
        (Type::List(item), Value::Array(items)) => {
            nested(out, number, |out| items.iter().for_each(|found| value(out, 1, item, found)));
        }
        (Type::Object(name), Value::Object(found)) => {
            nested(out, number, |out| object_of(out, name, found));
        }
        _ => {}
    }
}

/// Appends the message of a named type, without its length.
pub(super) fn object_of(out: &mut Vec<u8>, name: &str, found: &Map<String, Value>) {
    if let Some(kind) = types::named(name) {
        object(out, &kind, found);
    }
}

fn int_or_string(out: &mut Vec<u8>, found: &Value) {
    match found {
        Value::String(text) => {
            integer(out, 1, 1);
            bytes(out, 3, text.as_bytes());
        }
        found => integer(out, 2, found.as_i64().unwrap_or_default()),
    }
}

fn time(out: &mut Vec<u8>, text: &str) {
    let Ok(time) = text.parse::<Timestamp>() else { return };
    integer(out, 1, time.as_second());
    integer(out, 2, i64::from(time.subsec_nanosecond()));
}

/// Appends a number.
pub(super) fn integer(out: &mut Vec<u8>, number: u32, value: i64) {
    key(out, number, VARINT);
    varint(out, value.cast_unsigned());
}

fn key(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

fn varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}
