//! A schema of a custom resource, or what may stand in its place: one value in JSON, in protobuf a message with a field
//! for either (`JSONSchemaPropsOrArray`, `OrBool`, `OrStringArray`).

use super::ProtobufError;
use super::wire::Reader;
use super::{message, write};
use crate::schema::types::Instead;
use serde_json::Value;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// What Go's JSON says for the message: the list where it has elements, else the schema, else the truth value or null.
pub(super) fn read(instead: Instead, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let (mut schema, mut allows, mut items) = (None, false, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (instead, number) {
            (Instead::Bool, 1) => allows = wire.signed()? != 0,
            (Instead::Bool, 2) | (Instead::Schemas | Instead::Texts, 1) => {
                schema = Some(message::object_of(SCHEMA, wire.bytes()?, depth)?);
            }
            (Instead::Schemas, 2) => items.push(message::object_of(SCHEMA, wire.bytes()?, depth)?),
            (Instead::Texts, 2) => items.push(wire.text()?.into()),
            _ => {}
        }
    }
    Ok(match (instead, schema) {
        _ if !items.is_empty() => Value::Array(items),
        (_, Some(schema)) => schema,
        (Instead::Bool, None) => allows.into(),
        (_, None) => Value::Null,
    })
}

/// Appends the message, without its length. Go sets `allows` beside a schema too.
pub(super) fn write(out: &mut Vec<u8>, instead: Instead, found: &Value) {
    match found {
        Value::Bool(allows) => write::integer(out, 1, i64::from(*allows)),
        Value::Object(schema) => {
            let number = if instead == Instead::Bool { 2 } else { 1 };
            if instead == Instead::Bool {
                write::integer(out, 1, 1);
            }
            write::nested(out, number, |out| write::object_of(out, SCHEMA, schema));
        }
        Value::Array(items) => items.iter().for_each(|item| match item {
            Value::Object(schema) => write::nested(out, 2, |out| write::object_of(out, SCHEMA, schema)),
            Value::String(name) => write::bytes(out, 2, name.as_bytes()),
            _ => {}
        }),
        _ => {}
    }
}
