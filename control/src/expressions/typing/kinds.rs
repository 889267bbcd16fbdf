//! What is known of a value before there is one, and of its fields.

use crate::schema::types::{self, ObjectType, Type};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// The value that a rule of a schema stands at.
    pub(crate) fn of_rule(schema: &Value, is_resource: bool) -> Self {
        match Self::of_schema(schema) {
            Self::Object(Shape::Custom(schema)) if is_resource => Self::Object(Shape::Resource(schema)),
            other => other,
        }
    }

    fn of_schema(schema: &Value) -> Self {
        if schema["x-kubernetes-preserve-unknown-fields"] == true
            || schema["x-kubernetes-int-or-string"] == true
        {
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
            "object" if schema["properties"].is_object() => {
                Self::Object(Shape::Custom(Arc::new(schema.clone())))
            }
            "object" if schema["additionalProperties"].is_object() => {
                Self::Map(Box::new(Self::of_schema(&schema["additionalProperties"])))
            }
            _ => Self::Any,
        }
    }
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
                schema["properties"].get(name).map(Kind::of_schema)
            }
        }
    }
}
