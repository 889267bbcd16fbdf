//! Expressions that make changes: `Object{spec: Object.spec{replicas: 3}}`, a part of an object, and lists of
//! `JSONPatch{op: "add", path: "/spec/replicas", value: 3}`.
//!
//! The types that an expression names are made up for it: nothing is known of their fields but that the name of a type
//! is the path where its value stands. That is checked on the result.

use super::known::{self, Language};
use super::{Expression, Variables, environment};
use cel::common::types::{CelOptional, CelString, CelStruct, STRING_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError, StructType, Value as Cel};
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// The root of all types of objects.
const OBJECT: &str = "Object";
/// The type of one operation.
const OPERATION: &str = "JSONPatch";
const FIELDS_OF_OPERATION: [&str; 4] = ["from", "op", "path", "value"];

/// Names before a brace that may be types of ours. What stands in a text is found as well, which does no harm.
static TYPES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b(JSONPatch|Object(?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)*)\s*\{").ok());

/// A type whose values have whatever fields they are given.
struct MadeUp {
    kind: Type,
    fields: Option<&'static [&'static str]>,
}

impl StructType for MadeUp {
    fn get_type(&self) -> &Type {
        &self.kind
    }

    fn new_value<'b, 'v>(
        &self,
        fields: BTreeMap<String, CowVal<'b, 'v>>,
    ) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        let mut made = CelStruct::new(self.kind.name().to_owned());
        for (name, value) in fields {
            if self.fields.is_some_and(|known| !known.contains(&name.as_str())) {
                let name = format!("field `{name}` on struct `{}`", self.kind.name());
                return Err(ExecutionError::NoSuchKey(Arc::new(name)));
            }
            match value.downcast_ref::<CelOptional<'_>>().map(|optional| optional.option()) {
                None => made.add_field_value(name, value),
                Some(Some(present)) => made.add_field_value(name, CowVal::Owned(present.clone_as_boxed())),
                Some(None) => {}
            }
        }
        Ok(Box::new(made))
    }
}

impl Expression {
    /// Compiles an expression that may make objects, or says why it cannot.
    pub(crate) fn compile_patch(source: &str) -> Result<Self, String> {
        known::or_compiled(Language::Patch, source, || Self::compile_patch_anew(source))
    }

    fn compile_patch_anew(source: &str) -> Result<Self, String> {
        let mut env = environment();
        let fault = |error: cel::DeclarationError| format!("compilation failed: {error}");
        let signature = "string_jsonpatch_escapeKey_string";
        env.add_overload("jsonpatch.escapeKey", signature, vec![STRING_TYPE], escape_key).map_err(fault)?;
        let found = TYPES.iter().flat_map(|types| types.captures_iter(source));
        let names: BTreeSet<String> = found
            .filter_map(|found| found.get(1))
            .map(|name| name.as_str().split_whitespace().collect())
            .collect();
        for name in names {
            declare(&mut env, &name).map_err(fault)?;
        }
        Self::compile_in(Arc::new(env), source)
    }

    fn value(&self, variables: &Variables) -> Result<Cel, String> {
        let value = self.evaluate(variables)?;
        Cel::try_from(&*value).map_err(|error| error.to_string())
    }

    /// The part of an object that an apply configuration names.
    pub(crate) fn object(&self, variables: &Variables) -> Result<Value, String> {
        match self.value(variables)? {
            Cel::Struct(made) if made.name() == OBJECT => json_of_struct(&made, OBJECT),
            other => Err(format!("must evaluate to Object, not {}", other.type_of())),
        }
    }

    /// The operations of a JSON patch.
    pub(crate) fn operations(&self, variables: &Variables) -> Result<Value, String> {
        let Cel::List(items) = self.value(variables)? else {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
        };
        items.iter().map(operation).collect()
    }
}

fn declare(env: &mut Env, name: &str) -> Result<(), cel::DeclarationError> {
    let fields = (name == OPERATION).then_some(&FIELDS_OF_OPERATION[..]);
    env.add_type(MadeUp { kind: Type::new_struct(name.to_owned()), fields })
}

/// `jsonpatch.escapeKey`: a key as a part of a path.
fn escape_key<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let key = arguments.first().and_then(|key| key.downcast_ref::<CelString<'_>>());
    let escaped = key.map_or_else(String::new, |key| key.inner().replace('~', "~0").replace('/', "~1"));
    Ok(CowVal::owned(CelString::from(escaped)))
}

fn operation(item: &Cel) -> Result<Value, String> {
    let Cel::Struct(made) = item else {
        let found = item.type_of();
        return Err(format!(
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {found}"
        ));
    };
    let mut operation = Map::new();
    for (name, value) in made.field_values() {
        let value = Cel::try_from(&*value).map_err(|error| error.to_string())?;
        let root = match &value {
            Cel::Struct(made) => made.name().to_owned(),
            _ => OBJECT.to_owned(),
        };
        operation.insert(name, json_of(&value, &root)?);
    }
    Ok(Value::Object(operation))
}

fn json_of_struct(made: &CelStruct<'static>, path: &str) -> Result<Value, String> {
    if made.name() != path {
        return Err(format!(
            "type mismatch: unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
            made.name()
        ));
    }
    let field = |(name, value): (String, Arc<dyn Val>)| {
        let value = Cel::try_from(&*value).map_err(|error| error.to_string())?;
        let json = json_of(&value, &format!("{path}.{name}"))?;
        Ok((name, json))
    };
    made.field_values().into_iter().map(field).collect::<Result<Map<_, _>, String>>().map(Value::Object)
}

/// A value as JSON; types in it must be those of where it stands.
fn json_of(value: &Cel, path: &str) -> Result<Value, String> {
    match value {
        Cel::Struct(made) => json_of_struct(made, path),
        Cel::List(items) => items.iter().map(|item| json_of(item, path)).collect(),
        Cel::Map(map) => {
            let pair = |(key, value): (&cel::objects::Key, &Cel)| match key {
                cel::objects::Key::String(name) => Ok((name.to_string(), json_of(value, path)?)),
                other => Err(format!("map key {other:?} is not string")),
            };
            map.map.iter().map(pair).collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        other => other.json().map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(source: &str) -> Result<Value, String> {
        let variables = Variables::default().with("object", &json!({"n": 2, "labels": {"a": "b"}}));
        Expression::compile_patch(source)?.object(&variables)
    }

    #[test]
    fn objects_are_made_of_their_fields() {
        let made = object(
            "Object{metadata: Object.metadata{labels: {'x': 'y'}}, spec: Object.spec{replicas: object.n + 1,
                containers: [Object.spec.containers{name: 'c', ?image: object.?image}]}}",
        );
        let expected = json!({"metadata": {"labels": {"x": "y"}},
            "spec": {"replicas": 3, "containers": [{"name": "c"}]}});
        assert_eq!(made.unwrap(), expected);
        assert_eq!(
            object("object.n > 5 ? Object{} : Object{spec: Object . spec {}}").unwrap(),
            json!({"spec": {}})
        );
    }

    #[test]
    fn types_stand_where_their_names_say() {
        let wrong = object("Object{spec: Object.status{}}").unwrap_err();
        assert!(wrong.contains(r#"unexpected type name "Object.status", expected "Object.spec""#), "{wrong}");
        assert!(object("{'spec': {}}").unwrap_err().contains("must evaluate to Object"));
        assert!(object("Object.spec{}").is_err() && object("Nothing{}").is_err());
    }

    #[test]
    fn operations_are_a_list() {
        let variables = Variables::default().with("object", &json!({"n": 2}));
        let run = |source: &str| Expression::compile_patch(source)?.operations(&variables);
        let source = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'x'},
            JSONPatch{op: 'replace', path: '/spec', value: Object.spec{n: object.n}}] + (false ? [JSONPatch{op: 'remove', path: '/x'}] : [])";
        let expected = json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "x"},
            {"op": "replace", "path": "/spec", "value": {"n": 2}}]);
        assert_eq!(run(source).unwrap(), expected);
        assert!(run("JSONPatch{op: 'add'}").unwrap_err().contains("should evaluate to array"));
        assert!(run("[1]").unwrap_err().contains("array of JSONPatch"));
        assert!(run("[JSONPatch{verb: 'add'}]").is_err());
    }
}
