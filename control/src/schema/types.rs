//! Schemas in the form that requests are checked against: fields and their types, without a word of description.
//!
//! Object types refer to each other by name (some are recursive) and are kept once for the whole process, made when a
//! kind is first used.

use super::kinds::{self, REFERENCE};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Number,
    Quantity,
    IntOrString,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// Any JSON: embedded objects, owned fields, defaults inside custom resource definitions.
    Free,
    /// A schema inside a custom resource definition, or what may stand in its place.
    SchemaOr(Instead),
    List(Box<Type>),
    Map(Box<Type>),
    Object(Arc<str>),
}

/// What may stand in the place of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// `additionalProperties: true`
    Bool,
    /// `items` with one schema for each element.
    Schemas,
    /// `dependencies` that are names of fields.
    Texts,
}

/// The fields of an object type, sorted by name.
#[derive(Debug)]
pub(crate) struct ObjectType {
    /// `io.k8s.api.core.v1.PodSpec`
    pub(crate) name: Arc<str>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) kind: Type,
    pub(crate) required: bool,
}

impl ObjectType {
    /// The field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// `PodSpec`
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// The type of a kind; `None` for a kind that has none here (custom resources).
pub(crate) fn of_kind(group: &str, version: &str, kind: &str) -> Option<Arc<ObjectType>> {
    let known = kinds::find(group, version, kind)?;
    let name = known.type_name();
    if let Some(found) = named(&name) {
        return Some(found);
    }
    let made: Vec<ObjectType> =
        known.definitions().into_iter().filter_map(|(name, schema)| object_type(&name, &schema)).collect();
    let mut types = types().write().unwrap_or_else(PoisonError::into_inner);
    for object in made {
        types.entry(object.name.clone()).or_insert_with(|| Arc::new(object));
    }
    types.get(name.as_str()).cloned()
}

/// A type that some kind already brought in.
pub(crate) fn named(name: &str) -> Option<Arc<ObjectType>> {
    types().read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
}

fn types() -> &'static RwLock<HashMap<Arc<str>, Arc<ObjectType>>> {
    static TYPES: OnceLock<RwLock<HashMap<Arc<str>, Arc<ObjectType>>>> = OnceLock::new();
    TYPES.get_or_init(RwLock::default)
}

/// An object type with named fields; `None` for definitions of scalars and free content.
fn object_type(name: &str, schema: &Value) -> Option<ObjectType> {
    let properties = schema.get("properties").and_then(Value::as_object)?;
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut fields: Vec<Field> = properties
        .iter()
        .map(|(field, schema)| Field {
            name: field.as_str().into(),
            kind: type_of(schema),
            required: required.contains(&field.as_str()),
        })
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Some(ObjectType { name: name.into(), fields })
}

fn type_of(schema: &Value) -> Type {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return referenced(reference.strip_prefix(REFERENCE).unwrap_or(reference));
    }
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("string", "byte") => Type::Bytes,
        ("string", "date-time") => Type::Time,
        ("string", _) => Type::Text,
        ("boolean", _) => Type::Bool,
        ("integer", "int32") => Type::Int32,
        ("integer", _) => Type::Int64,
        ("number", _) => Type::Number,
        ("array", _) => Type::List(Box::new(schema.get("items").map_or(Type::Free, type_of))),
        ("object", _) => map_type(schema.as_object()),
        _ => Type::Free,
    }
}

fn map_type(schema: Option<&Map<String, Value>>) -> Type {
    match schema.and_then(|schema| schema.get("additionalProperties")) {
        Some(values) => Type::Map(Box::new(type_of(values))),
        None => Type::Free,
    }
}

/// Definitions whose JSON is not an object with fixed fields.
fn referenced(name: &str) -> Type {
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => Type::Quantity,
        "IntOrString" => Type::IntOrString,
        "Time" => Type::Time,
        "MicroTime" => Type::MicroTime,
        "RawExtension" | "FieldsV1" | "JSON" => Type::Free,
        "JSONSchemaPropsOrArray" => Type::SchemaOr(Instead::Schemas),
        "JSONSchemaPropsOrBool" => Type::SchemaOr(Instead::Bool),
        "JSONSchemaPropsOrStringArray" => Type::SchemaOr(Instead::Texts),
        _ => Type::Object(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_a_pod_are_known() {
        let pod = of_kind("", "v1", "Pod").unwrap();
        assert_eq!(pod.short_name(), "Pod");
        assert_eq!(pod.field("spec").unwrap().kind, Type::Object("io.k8s.api.core.v1.PodSpec".into()));
        let spec = named("io.k8s.api.core.v1.PodSpec").unwrap();
        assert!(spec.field("containers").unwrap().required);
        assert_eq!(spec.field("overhead").unwrap().kind, Type::Map(Box::new(Type::Quantity)));
        let port = named("io.k8s.api.core.v1.HTTPGetAction").unwrap();
        assert_eq!(port.field("port").unwrap().kind, Type::IntOrString);
        assert_eq!(
            of_kind("", "v1", "Secret").unwrap().field("data").unwrap().kind,
            Type::Map(Box::new(Type::Bytes))
        );
        assert!(of_kind("stable.example.com", "v1", "CronTab").is_none());
    }
}
