//! What Kubernetes says of a wrong type in an object that a strategic merge patch made: such an object is never JSON
//! again but is made into its kind directly, by a converter that has words of its own.

use crate::schema::go_types;
use crate::schema::types::Type;
use serde_json::Value;

/// The converter's sentence, where `value` stands for a `kind`; none where the kind reads itself.
pub(super) fn words(value: &Value, kind: &Type) -> Option<String> {
    Some(match kind {
        Type::Map(_) => format!("cannot restore map from {}", found(value)),
        Type::List(_) | Type::Bytes => format!("cannot restore slice from {}", found(value)),
        Type::Object(_) => format!("cannot restore struct from: {}", found(value)),
        // Those that Go itself would turn into one another.
        Type::Text if value.is_i64() => convert(value, kind),
        Type::Int32 | Type::Int64 if value.is_f64() => convert(value, kind),
        Type::Text | Type::Bool | Type::Int32 | Type::Int64 | Type::Number => {
            format!("unrecognized type: {}", go_types::of_kind(kind))
        }
        Type::Free
        | Type::SchemaOr(_)
        | Type::Time
        | Type::MicroTime
        | Type::Quantity
        | Type::IntOrString => return None,
    })
}

fn convert(value: &Value, kind: &Type) -> String {
    format!("cannot convert {} to {}", typed(value), go_types::of_kind(kind))
}

/// The kind of a value, as Go names it.
fn found(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
        other => typed(other),
    }
}

/// Its type; the converter has no word for null.
fn typed(value: &Value) -> &'static str {
    if value.is_null() { "invalid" } else { go_types::of_value(value) }
}
