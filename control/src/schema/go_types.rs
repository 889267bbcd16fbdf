//! The names that types have in Go: people know them from what Kubernetes' decoders and converters say.

use super::types::Type;
use serde_json::Value;

/// The type of a field.
pub(crate) fn of_kind(kind: &Type) -> String {
    match kind {
        Type::Text | Type::Time | Type::MicroTime => "string".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Number => "float64".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::IntOrString => "intstr.IntOrString".to_owned(),
        Type::Free | Type::SchemaOr(_) => "interface {}".to_owned(),
        Type::List(item) => format!("[]{}", of_kind(item)),
        Type::Map(item) => format!("map[string]{}", of_kind(item)),
        Type::Object(name) => of_object(name),
    }
}

/// `io.k8s.api.core.v1.PodSpec` is `v1.PodSpec`.
pub(crate) fn of_object(name: &str) -> String {
    let mut parts = name.rsplit('.');
    let (kind, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{kind}")
}

/// The type that a value has once it is read.
pub(crate) fn of_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
