//! What kind of JSON value something is, in the words with which Go's decoder complains of it.

use serde_json::Value;

/// `null`, `bool`, `number`, `string`, `array` or `object`.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
