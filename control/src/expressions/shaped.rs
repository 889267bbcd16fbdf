//! Values of custom resources as their rules see them, which is as the schema says: bytes, times and durations are more
//! than texts, numbers that are whole may be fractions, and names that CEL could not say are written in other letters.

use super::keyed_list::KeyedList;
use super::{Expression, Variables, to_cel};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{CelBytes, CelDouble, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString};
use cel::common::value::Val;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Words of CEL that properties may be called by; they are written `__in__`.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

impl Variables {
    /// Adds a value of a schema; nothing where there is none.
    pub(crate) fn with_shaped(mut self, name: &str, value: Option<&Value>, schema: &Value) -> Self {
        let value = value.map_or_else(|| Box::new(CelNull) as Box<dyn Val>, |value| shaped(schema, value));
        self.set(name, value);
        self
    }

    /// The same, where the rule asks whether there is a value.
    pub(crate) fn with_optional(mut self, name: &str, value: Option<&Value>, schema: &Value) -> Self {
        let value = value.map(|value| shaped(schema, value));
        self.set(name, Box::new(value.map_or_else(CelOptional::none, CelOptional::of)));
        self
    }
}

fn shaped(schema: &Value, value: &Value) -> Box<dyn Val> {
    match value {
        Value::Object(fields) => Box::new(CelMap::from(object(schema, fields))),
        Value::Array(items) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            let items: Vec<Box<dyn Val>> = items.iter().map(|item| shaped(inner, item)).collect();
            match identities(schema) {
                Some(keys) => Box::new(KeyedList::new(CelList::from(items), keys)),
                None => Box::new(CelList::from(items)),
            }
        }
        Value::String(text) => shaped_text(schema, text),
        Value::Number(number) if schema.get("type").is_some_and(|kind| kind == "number") => {
            Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
        }
        other => to_cel(other),
    }
}

/// The fields by which elements of a list are known, in the letters of expressions; none for a set.
fn identities(schema: &Value) -> Option<Vec<String>> {
    match schema.get("x-kubernetes-list-type")?.as_str()? {
        "set" => Some(Vec::new()),
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?;
            Some(keys.iter().filter_map(Value::as_str).map(escaped_name).collect())
        }
        _ => None,
    }
}

fn object(schema: &Value, fields: &Map<String, Value>) -> HashMap<CelMapKey<'static>, Box<dyn Val>> {
    let properties = schema.get("properties");
    let others = schema.get("additionalProperties").unwrap_or(&Value::Null);
    let known = |name: &String| properties.and_then(|known| known.get(name));
    let entry = |(name, value): (&String, &Value)| match known(name) {
        Some(inner) => (CelMapKey::from(escaped_name(name)), shaped(inner, value)),
        None => (CelMapKey::from(name.clone()), shaped(others, value)),
    };
    // A field that may be null, and is, is as good as none.
    let is_there = |(name, value): &(&String, &Value)| {
        !(value.is_null() && properties.is_some_and(|known| known.get(name.as_str()).is_some()))
    };
    let there = || fields.iter().filter(is_there);
    // A word of the language is understood behind a dot, too.
    let plain = there()
        .filter(|(name, _)| RESERVED.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((CelMapKey::from(name.clone()), shaped(known(name)?, value))));
    there().map(entry).chain(plain).collect()
}

fn shaped_text(schema: &Value, text: &str) -> Box<dyn Val> {
    let made = match schema.get("format").and_then(Value::as_str).unwrap_or_default() {
        "byte" => STANDARD.decode(text).ok().map(|bytes| Box::new(CelBytes::from(bytes)) as Box<dyn Val>),
        "date" => computed("timestamp(text)", &format!("{text}T00:00:00Z")),
        "date-time" | "datetime" => computed("timestamp(text)", text),
        "duration" => computed("duration(text)", text),
        _ => None,
    };
    made.unwrap_or_else(|| Box::new(CelString::from(text.to_owned())))
}

fn computed(source: &str, text: &str) -> Option<Box<dyn Val>> {
    let variables = Variables::default().with("text", &text.into());
    Expression::compile(source).ok()?.evaluate(&variables).ok()
}

/// The name of a property in expressions.
pub(super) fn escaped_name(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let name = name.replace("__", "__underscores__");
    name.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_what_the_schema_says() {
        let schema = json!({"properties": {
            "key": {"type": "string", "format": "byte"}, "at": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"}, "wait": {"type": "string", "format": "duration"},
            "ratio": {"type": "number"}, "max-size": {"type": "integer"}, "while": {"type": "integer"},
            "none": {"type": "string", "nullable": true}}});
        let value = json!({"key": "Zm9v", "at": "2024-01-02T03:04:05Z", "day": "2024-01-02", "wait": "90s",
            "ratio": 3, "max-size": 2, "while": 1, "none": null, "free": null});
        let variables = Variables::default().with_shaped("self", Some(&value), &schema);
        for source in [
            "self.key == b'foo' && string(self.key) == 'foo'",
            "self.at.getFullYear() == 2024 && self.at > self.day",
            "self.wait < duration('2m')",
            "self.ratio / 2.0 == 1.5 && self.max__dash__size + 1 == 3",
            "self.__while__ == 1 && !has(self.none) && self.free == null",
            "has(self.while) && self.while == 1",
        ] {
            assert_eq!(Expression::compile(source).unwrap().holds(&variables), Ok(true), "{source}");
        }
    }

    #[test]
    fn what_was_before_may_be_asked_for() {
        let ask = Expression::compile("oldSelf.hasValue() ? oldSelf.value() == 1 : true").unwrap();
        let variables =
            |old: Option<&Value>| Variables::default().with_optional("oldSelf", old, &Value::Null);
        assert_eq!(ask.holds(&variables(None)), Ok(true));
        assert_eq!(ask.holds(&variables(Some(&json!(1)))), Ok(true));
        assert_eq!(ask.holds(&variables(Some(&json!(2)))), Ok(false));
    }
}
