//! Reading objects that clients send as protobuf (kubectl from 1.32 on does so for everything it creates by type), and
//! writing answers in it (`answers.rs`).
//!
//! The body is `k8s\0` and an envelope (`runtime.Unknown`) with api version, kind and the object's own message. The
//! message is read straight into JSON, guided by the schema of the kind and by the field numbers in its table of facts,
//! so there is no second set of types. Go's zero values are left out where Go's JSON would leave them out.

pub(crate) mod answers;
mod message;
mod schema_or;
mod wire;
mod write;

use crate::schema::types;
use serde_json::{Map, Value};
use wire::Reader;

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not start as it must.
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    Prefix,
    /// A length or a number runs past the end.
    #[error("unexpected EOF")]
    Truncated,
    /// Text that is not UTF-8, a field of another wire type, nesting without end.
    #[error("proto: illegal {0}")]
    Illegal(&'static str),
    /// A kind whose fields are not known here.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        #[allow(missing_docs)]
        api_version: String,
        #[allow(missing_docs)]
        kind: String,
    },
}

/// The object in a protobuf body, as JSON with `apiVersion` and `kind`.
///
/// # Errors
/// For every body that is not a well-formed message of a kind with a schema: a 400 with this text.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = Envelope::read(body.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?)?;
    let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
    let unknown = || ProtobufError::UnknownKind {
        api_version: envelope.api_version.clone(),
        kind: envelope.kind.clone(),
    };
    if envelope.content_type == "application/json" {
        return serde_json::from_slice(envelope.raw).map_err(|_| ProtobufError::Illegal("JSON"));
    }
    let kind = types::of_kind(group, version, &envelope.kind).ok_or_else(unknown)?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), envelope.api_version.as_str().into());
    object.insert("kind".to_owned(), envelope.kind.as_str().into());
    message::read_into(&mut object, &kind, envelope.raw)?;
    Ok(Value::Object(object))
}

/// `runtime.Unknown`
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    content_type: String,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Envelope<'a>, ProtobufError> {
        let mut envelope = Envelope {
            api_version: String::new(),
            kind: String::new(),
            raw: &[],
            content_type: String::new(),
        };
        let mut reader = Reader::new(bytes);
        while let Some((number, value)) = reader.next()? {
            match number {
                1 => envelope.read_type(value.bytes()?)?,
                2 => envelope.raw = value.bytes()?,
                4 => envelope.content_type = value.text()?.to_owned(),
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, bytes: &[u8]) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, value)) = reader.next()? {
            match number {
                1 => self.api_version = value.text()?.to_owned(),
                2 => self.kind = value.text()?.to_owned(),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
