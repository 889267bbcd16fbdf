//! The protobuf form of an OpenAPI 2 document (`openapi.v2.Document`), which is the only one that older kubectls ask
//! for. Encoded straight from the JSON form; the numbers are the field numbers of its messages.

use super::{Sink, v2};
use serde_json::{Map, Value};

/// The document while its parts arrive.
#[derive(Debug, Default)]
pub(super) struct Document {
    definitions: Message,
    paths: Message,
}

impl Document {
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Message::default();
        out.field(1, b"2.0");
        out.nested(2, |info| {
            info.field(1, super::TITLE.as_bytes());
            info.field(2, super::VERSION.as_bytes());
        });
        out.field(8, &self.paths.bytes);
        out.field(9, &self.definitions.bytes);
        out.bytes
    }
}

impl Sink for Document {
    fn definition(&mut self, name: &str, value: Value) -> serde_json::Result<()> {
        let value = v2::schema(value);
        self.definitions.named(1, name, |out| schema(out, &value));
        Ok(())
    }

    fn path(&mut self, path: &str, item: Value) -> serde_json::Result<()> {
        self.ready_path(path, &v2::path_item(item))
    }

    fn ready_path(&mut self, path: &str, item: &Value) -> serde_json::Result<()> {
        self.paths.named(2, path, |out| path_item(out, item));
        Ok(())
    }
}

fn path_item(out: &mut Message, item: &Value) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(value) = item.get(method) {
            out.nested(number, |out| operation(out, value));
        }
    }
    for parameter in list(item.get("parameters")) {
        out.nested(9, |out| parameter_item(out, parameter));
    }
}

fn operation(out: &mut Message, operation: &Value) {
    for (number, field) in [(6, "produces"), (7, "consumes")] {
        for kind in list(operation.get(field)) {
            out.text(number, Some(kind));
        }
    }
    for parameter in list(operation.get("parameters")) {
        out.nested(8, |out| parameter_item(out, parameter));
    }
    out.nested(9, |responses| {
        for (code, response) in entries(operation.get("responses")) {
            responses.named(1, code, |out| {
                out.nested(1, |out| {
                    out.text(1, response.get("description"));
                    if let Some(value) = response.get("schema") {
                        out.nested(2, |out| out.nested(1, |out| schema(out, value)));
                    }
                });
            });
        }
    });
    extensions(out, 13, operation);
}

fn parameter_item(out: &mut Message, parameter: &Value) {
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
    out.nested(1, |out| match place {
        "body" => out.nested(1, |out| {
            out.text(2, parameter.get("name"));
            out.text(3, parameter.get("in"));
            out.flag(4, parameter.get("required"));
            if let Some(value) = parameter.get("schema") {
                out.nested(5, |out| schema(out, value));
            }
        }),
        _ => out.nested(2, |out| {
            let (kind, type_number) = if place == "path" { (4, 5) } else { (3, 6) };
            out.nested(kind, |out| {
                out.flag(1, parameter.get("required"));
                out.text(2, parameter.get("in"));
                out.text(3, parameter.get("description"));
                out.text(4, parameter.get("name"));
                out.text(type_number, parameter.get("type"));
            });
        }),
    });
}

fn schema(out: &mut Message, value: &Value) {
    out.text(1, value.get("$ref"));
    out.text(2, value.get("format"));
    out.text(4, value.get("description"));
    for field in list(value.get("required")) {
        out.text(19, Some(field));
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => out.nested(21, |out| out.flag(2, Some(&Value::Bool(*allowed)))),
        Some(values) => out.nested(21, |out| out.nested(1, |out| schema(out, values))),
        None => {}
    }
    if let Some(kind) = value.get("type") {
        out.nested(22, |out| out.text(1, Some(kind)));
    }
    if let Some(items) = value.get("items") {
        out.nested(23, |out| out.nested(1, |out| schema(out, items)));
    }
    if let Some(properties) = value.get("properties") {
        out.nested(25, |out| {
            for (name, property) in entries(Some(properties)) {
                out.named(1, name, |out| schema(out, property));
            }
        });
    }
    extensions(out, 31, value);
}

/// Every field that starts with `x-`; JSON is YAML.
fn extensions(out: &mut Message, number: u32, value: &Value) {
    for (name, value) in entries(Some(value)).filter(|(name, _)| name.starts_with("x-")) {
        out.named(number, name, |out| out.text(2, Some(&Value::String(value.to_string()))));
    }
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let map: Option<&Map<String, Value>> = value.and_then(Value::as_object);
    map.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A message being written. Empty texts and unset flags are left out, as proto3 has it.
#[derive(Debug, Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn text(&mut self, number: u32, text: Option<&Value>) {
        if let Some(text) = text.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.field(number, text.as_bytes());
        }
    }

    fn flag(&mut self, number: u32, flag: Option<&Value>) {
        if flag.and_then(Value::as_bool) == Some(true) {
            prost::encoding::encode_key(number, prost::encoding::WireType::Varint, &mut self.bytes);
            self.bytes.push(1);
        }
    }

    fn nested(&mut self, number: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.field(number, &inner.bytes);
    }

    /// An entry of a map: a message of a name (1) and a value (2).
    fn named(&mut self, number: u32, name: &str, write: impl FnOnce(&mut Message)) {
        self.nested(number, |entry| {
            entry.field(1, name.as_bytes());
            entry.nested(2, write);
        });
    }

    fn field(&mut self, number: u32, bytes: &[u8]) {
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut self.bytes);
        prost::encoding::encode_varint(bytes.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(bytes);
    }
}
