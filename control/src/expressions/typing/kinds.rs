//! What is known of a value before there is one, and of its fields.

use crate::schema::types::{self, ObjectType, Type};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const DEEPEST: usize = 128;
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A kind of value.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Could be anything.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List(Box<Kind>),
    /// By texts.
    Map(Box<Kind>),
    Object(Shape),
}

/// Which fields an object has.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Those of a type of Kubernetes.
    Known(Arc<ObjectType>),
    /// Those of a schema.
    Custom(Arc<Value>),
    /// Those of a custom resource, which has metadata besides.
    Resource(Arc<Value>),
    /// These.
    Named(Arc<BTreeMap<String, Kind>>),
}

impl Kind {
    /// As CEL calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Any => "dyn".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Uint => "uint".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::List(element) => format!("list({})", element.name()),
            Self::Map(value) => format!("map(string, {})", value.name()),
            Self::Object(_) => "object".to_owned(),
        }
    }

    /// Whether it is one simple value, known for certain.
    pub(crate) fn is_simple(&self) -> bool {
        matches!(self, Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Text | Self::Bytes)
    }

    /// The kind of a field; `None` where there is no such field, an error where there can be none.
    pub(super) fn field(&self, name: &str) -> Result<Option<Kind>, String> {
        match self {
            Self::Any | Self::Null => Ok(Some(Self::Any)),
            Self::Map(value) => Ok(Some((**value).clone())),
            // A name that CEL could not say stands in other letters.
            Self::Object(_) if name.contains("__") => Ok(Some(Self::Any)),
            Self::Object(shape) => Ok(shape.field(name)),
            other => Err(other.name()),
        }
    }

    fn of_type(kind: &Type) -> Self {
        match kind {
            Type::Text => Self::Text,
            Type::Bool => Self::Bool,
            Type::Int32 | Type::Int64 => Self::Int,
            Type::Number => Self::Double,
            Type::List(element) => Self::List(Box::new(Self::of_type(element))),
            Type::Map(value) => Self::Map(Box::new(Self::of_type(value))),
            Type::Object(name) => {
                types::named(name).map_or(Self::Any, |known| Self::Object(Shape::Known(known)))
            }
            Type::Bytes
            | Type::Quantity
            | Type::IntOrString
            | Type::Time
            | Type::MicroTime
            | Type::Free
            | Type::SchemaOr(_) => Self::Any,
        }
    }

    /// The value that a rule of a schema stands at. Of what every object has it sees the names alone.
    pub(crate) fn of_rule(schema: &Value, is_resource: bool) -> Self {
        let mut schema = schema.clone();
        if is_resource {
            schema[EMBEDDED] = true.into();
        }
        with_names(&mut schema, 0);
        Self::of_schema(&schema)
    }

    fn of_schema(schema: &Value) -> Self {
        if schema["x-kubernetes-int-or-string"] == true {
            return Self::Any;
        }
        match schema["type"].as_str().unwrap_or_default() {
            "boolean" => Self::Bool,
            "integer" => Self::Int,
            "number" => Self::Double,
            "string" if schema.get("format").is_none() => Self::Text,
            "array" => Self::List(Box::new(Self::of_schema(&schema["items"]))),
            "object" if schema["x-kubernetes-embedded-resource"] == true => {
                Self::Object(Shape::Resource(Arc::new(schema.clone())))
            }
            "object" if schema["additionalProperties"].is_object() => {
                Self::Map(Box::new(Self::of_schema(&schema["additionalProperties"])))
            }
            "object" => Self::Object(Shape::Custom(Arc::new(schema.clone()))),
            _ => Self::Any,
        }
    }
}

/// Whether a field can be seen by rules: what may be anything, or holds such things alone, cannot.
fn is_typed(schema: &Value) -> bool {
    let inner = |name: &str| schema.get(name).is_none_or(|inner| !inner.is_object() || is_typed(inner));
    let kind = schema["type"].as_str().unwrap_or_default();
    schema["x-kubernetes-int-or-string"] == true
        || !kind.is_empty() && (kind != "array" || inner("items")) && inner("additionalProperties")
}

/// Objects inside of a schema as their rules know them: with types and names, as if their schemas said so.
fn with_names(schema: &mut Value, depth: usize) {
    let Some(map) = schema.as_object_mut().filter(|_| depth <= DEEPEST) else { return };
    if map.remove(EMBEDDED) == Some(true.into()) {
        let text = || json!({"type": "string"});
        let names = json!({"type": "object", "properties": {"name": text(), "generateName": text()}});
        let fields = map.entry("properties").or_insert_with(|| json!({}));
        for (name, kind) in [("apiVersion", text()), ("kind", text()), ("metadata", names)] {
            fields[name] = kind;
        }
    }
    for name in ["items", "additionalProperties"] {
        map.get_mut(name).into_iter().for_each(|inner| with_names(inner, depth + 1));
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, inner)| with_names(inner, depth + 1));
}

impl Shape {
    fn field(&self, name: &str) -> Option<Kind> {
        match (self, name) {
            (Self::Named(fields), _) => fields.get(name).cloned(),
            (Self::Known(known), _) => known.field(name).map(|field| Kind::of_type(&field.kind)),
            (Self::Resource(_), "apiVersion" | "kind") => Some(Kind::Text),
            (Self::Resource(_), "metadata") => {
                Some(types::named(METADATA).map_or(Kind::Any, |known| Kind::Object(Self::Known(known))))
            }
            (Self::Resource(schema) | Self::Custom(schema), _) => {
                schema["properties"].get(name).filter(|inner| is_typed(inner)).map(Kind::of_schema)
            }
        }
    }
}
