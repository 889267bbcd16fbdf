//! Checking an object against a structural schema, with the words of Kubernetes' own validator.

use super::correlation::counterpart;
use super::formats;
use crate::registry::Cause;
use regex::RegexBuilder;
use serde_json::{Map, Value};

const DEEPEST: usize = 128;
/// Bytes that the program of one pattern may take.
const LARGEST_PATTERN: usize = 1 << 20;

/// Every fault of the object. What a change leaves as it was is not looked at: the schema may have become stricter.
pub(crate) fn validate(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(map) = object.as_object() {
        let mut walk = Walk { causes: &mut causes, root: "", depth: 0 };
        for (name, value) in
            map.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"))
        {
            if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(name)) {
                walk.value(schema, value, old.and_then(|old| old.get(name)), name);
            }
        }
        walk.required(schema, map, "");
        walk.combined(schema, object, old, "");
    }
    forgiven(causes, schema, old)
}

/// The same of `.status` alone, whose fields are told by their path below it.
pub(crate) fn validate_status(schema: &Value, object: &Value, old: &Value) -> Vec<Cause> {
    let part = |whole| Value::get(whole, "status");
    let (Some(schema), Some(status)) = (schema.pointer("/properties/status"), part(object)) else {
        return Vec::new();
    };
    let mut causes = Vec::new();
    Walk { causes: &mut causes, root: "status", depth: 0 }.value(schema, status, part(old), "");
    forgiven(causes, schema, part(old))
}

/// What is wrong with the default of a part that stands at `place`.
pub(crate) fn default(schema: &Value, default: &Value, place: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    Walk { causes: &mut causes, root: "", depth: 0 }.value(schema, default, None, "default");
    let at = place.strip_suffix("default").unwrap_or_default();
    causes.iter_mut().for_each(|cause| cause.field.insert_str(0, at));
    causes
}

/// Who had something twice may keep it so.
fn forgiven(mut causes: Vec<Cause>, schema: &Value, old: Option<&Value>) -> Vec<Cause> {
    let twice = |cause: &Cause| cause.reason == "FieldValueDuplicate";
    if let Some(old) = old.filter(|_| causes.iter().any(twice)) {
        let mut before = Vec::new();
        Walk { causes: &mut before, root: "", depth: 0 }.value(schema, old, None, "");
        if before.iter().any(twice) {
            causes.retain(|cause| !twice(cause));
        }
    }
    causes
}

struct Walk<'a> {
    causes: &'a mut Vec<Cause>,
    /// Stands before the paths of fields, not in the words about them.
    root: &'a str,
    depth: usize,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        if self.depth > DEEPEST
            || old == Some(value)
            || (value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)))
        {
            return;
        }
        self.depth += 1;
        self.kind(schema, value, path);
        self.combined(schema, value, old, path);
        match value {
            Value::Number(_) => self.number(schema, value, path),
            Value::String(text) => self.text(schema, text, path),
            Value::Array(items) => self.list(schema, items, old, path),
            _ => {}
        }
        self.choice(schema, value, path);
        if let Value::Object(map) = value {
            self.object(schema, map, old, path);
        }
        self.depth -= 1;
    }

    fn push(&mut self, reason: &'static str, path: &str, message: String) {
        let field = match (self.root, path) {
            (root, "") => root.to_owned(),
            ("", path) => path.to_owned(),
            (root, path) => format!("{root}.{path}"),
        };
        self.causes.push(Cause { reason, field, message });
    }

    /// The value has the type that the schema says.
    fn kind(&mut self, schema: &Value, value: &Value, path: &str) {
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            let fits = value.is_i64() || value.is_string();
            if !fits {
                self.wrong_type(path, value, "integer,string");
            }
            return;
        }
        let Some(wanted) = schema.get("type").and_then(Value::as_str) else { return };
        let fits = match wanted {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "number" => value.is_number(),
            _ => true,
        };
        if !fits {
            self.wrong_type(path, value, wanted);
        }
    }

    fn wrong_type(&mut self, path: &str, value: &Value, wanted: &str) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let message = format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}");
        self.push("FieldValueTypeInvalid", path, message);
    }

    fn choice(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return };
        if !allowed.contains(value) {
            let allowed: Vec<String> = allowed.iter().map(|value| format!("{:?}", plain(value))).collect();
            let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
            self.push("FieldValueNotSupported", path, message);
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let number = value.as_f64().unwrap_or(0.0);
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let exclusive = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        if let Some(least) = bound("minimum") {
            let strict = exclusive("exclusiveMinimum");
            if number < least || (strict && number == least) {
                let relation = if strict { "greater than" } else { "greater than or equal to" };
                self.invalid(path, value, &format!("should be {relation} {least}"));
            }
        }
        if let Some(most) = bound("maximum") {
            let strict = exclusive("exclusiveMaximum");
            if number > most || (strict && number == most) {
                let relation = if strict { "less than" } else { "less than or equal to" };
                self.invalid(path, value, &format!("should be {relation} {most}"));
            }
        }
        if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0 && (number / step).fract() != 0.0) {
            self.invalid(path, value, &format!("should be a multiple of {step}"));
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let value = Value::from(text);
        let length = text.chars().count() as u64;
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(least) = bound("minLength").filter(|least| length < *least) {
            self.invalid(path, &value, &format!("should be at least {least} chars long"));
        }
        if let Some(most) = bound("maxLength").filter(|most| length > *most) {
            let message = format!("Too long: may not be more than {most} bytes");
            self.push("FieldValueTooLong", path, message);
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !formats::fits(format, text)
        {
            let rule = format!("must be of type {format}: {text:?}");
            let message = format!("Invalid value: {text:?}: {path} in body {rule}");
            self.push("FieldValueTypeInvalid", path, message);
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            let built = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
            if built.is_ok_and(|pattern| !pattern.is_match(text)) {
                self.invalid(path, &value, &format!("should match '{pattern}'"));
            }
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], old: Option<&Value>, path: &str) {
        let count = items.len() as u64;
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(least) = bound("minItems").filter(|least| count < *least) {
            self.invalid(path, &Value::from(count), &format!("should have at least {least} items"));
        }
        if let Some(most) = bound("maxItems").filter(|most| count > *most) {
            let message = format!("Too many: {count}: must have at most {most} items");
            self.push("FieldValueTooMany", path, message);
        }
        self.unique(schema, items, path);
        if let Some(inner) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(inner, item, counterpart(schema, item, old), &format!("{path}[{index}]"));
            }
        }
    }

    /// Sets, and lists that are maps, hold nothing twice.
    fn unique(&mut self, schema: &Value, items: &[Value], path: &str) {
        let keys: Vec<&str> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Vec::new(),
            Some("map") => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                keys.into_iter().flatten().filter_map(Value::as_str).collect()
            }
            _ => return,
        };
        let identity = |item: &Value| -> String {
            if keys.is_empty() {
                return item.to_string();
            }
            let parts =
                keys.iter().map(|key| ((*key).to_owned(), item.get(*key).cloned().unwrap_or_default()));
            Value::Object(parts.collect()).to_string()
        };
        let mut seen = std::collections::HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let identity = identity(item);
            if seen.contains(&identity) {
                let message = format!("Duplicate value: {identity}");
                self.push("FieldValueDuplicate", &format!("{path}[{index}]"), message);
            }
            seen.insert(identity);
        }
    }

    fn object(&mut self, schema: &Value, map: &Map<String, Value>, old: Option<&Value>, path: &str) {
        self.required(schema, map, path);
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, value) in map {
            let inner = properties.and_then(|properties| properties.get(name));
            let old = old.and_then(|old| old.get(name));
            match (inner, schema.get("additionalProperties")) {
                (Some(schema), _) => self.value(schema, value, old, &join(path, name)),
                (None, Some(schema)) if schema.is_object() => {
                    self.value(schema, value, old, &join(path, name))
                }
                _ => {}
            }
        }
        let count = map.len() as u64;
        if let Some(most) = schema.get("maxProperties").and_then(Value::as_u64).filter(|most| count > *most) {
            let message = format!("Too many: {count}: must have at most {most} items");
            self.push("FieldValueTooMany", path, message);
        }
        if let Some(least) =
            schema.get("minProperties").and_then(Value::as_u64).filter(|least| count < *least)
        {
            self.invalid(path, &Value::from(count), &format!("should have at least {least} properties"));
        }
    }

    fn required(&mut self, schema: &Value, map: &Map<String, Value>, path: &str) {
        let required =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !map.contains_key(*name)) {
            let message = "Required value".to_owned();
            self.push("FieldValueRequired", &join(path, name), message);
        }
    }

    fn combined(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        let parts =
            |name: &str| schema.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (root, depth) = (self.root, self.depth);
        let faults = |part: &Value, old: Option<&Value>| {
            let mut causes = Vec::new();
            Walk { causes: &mut causes, root, depth }.value(part, value, old, path);
            causes
        };
        for (name, rule) in
            [("anyOf", "at least one schema (anyOf)"), ("oneOf", "one and only one schema (oneOf). Found ")]
        {
            let found: Vec<Vec<Cause>> = parts(name).iter().map(|part| faults(part, None)).collect();
            let fitting = found.iter().filter(|causes| causes.is_empty()).count();
            let (rule, wanted) = match (name, fitting) {
                ("anyOf", fitting) => (rule.to_owned(), fitting > 0),
                (_, 0) => (format!("{rule}none valid"), false),
                (_, fitting) => (format!("{rule}{fitting} valid alternatives"), fitting == 1),
            };
            if !found.is_empty() && !wanted {
                self.as_a_whole(path, &format!("must validate {rule}"));
                self.causes.extend(
                    found.into_iter().find(|causes| !causes.is_empty() && fitting == 0).unwrap_or_default(),
                );
            }
        }
        let all: Vec<Vec<Cause>> = parts("allOf").iter().map(|part| faults(part, old)).collect();
        let fitting = all.iter().filter(|causes| causes.is_empty()).count();
        let (asked, none) = (all.len(), if fitting == 0 { ". None validated" } else { "" });
        self.causes.extend(all.into_iter().flatten());
        if fitting < asked {
            self.as_a_whole(path, &format!("must validate all the schemas (allOf){none}"));
        }
        if schema.get("not").is_some_and(|part| faults(part, None).is_empty()) {
            self.as_a_whole(path, "must not validate the schema (not)");
        }
    }

    /// Of what several schemas say together no single field is told.
    fn as_a_whole(&mut self, path: &str, rule: &str) {
        let field = if self.root.is_empty() { "<nil>" } else { self.root };
        let message = format!("Invalid value: \"\": {path:?} {rule}");
        self.causes.push(Cause { reason: "FieldValueInvalid", field: field.to_owned(), message });
    }

    fn invalid(&mut self, path: &str, value: &Value, rule: &str) {
        let message = format!("Invalid value: {value}: {path} in body {rule}");
        self.push("FieldValueInvalid", path, message);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_read_as_in_kubernetes() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["name"], "properties": {
            "replicas": {"type": "integer", "minimum": 1}, "mode": {"type": "string", "enum": ["a", "b"]},
            "name": {"type": "string", "pattern": "^[a-z]+$"}, "port": {"x-kubernetes-int-or-string": true},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        }}}});
        let check = |spec: Value| {
            let causes = validate(&schema, &json!({"spec": spec}), None).into_iter();
            causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert_eq!(
            check(
                json!({"name": "x", "replicas": 1, "mode": "a", "port": "http", "either": 1, "tags": ["a"]})
            ),
            Vec::<String>::new()
        );
        assert_eq!(check(json!({})), ["spec.name: Required value"]);
        assert_eq!(
            check(json!({"name": "X", "replicas": "3", "mode": "c", "either": true, "tags": ["a", "a"]})),
            [
                "<nil>: Invalid value: \"\": \"spec.either\" must validate at least one schema (anyOf)",
                "spec.either: Invalid value: \"boolean\": spec.either in body must be of type string: \"boolean\"",
                "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
                "spec.name: Invalid value: \"X\": spec.name in body should match '^[a-z]+$'",
                "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
                "spec.tags[1]: Duplicate value: \"a\"",
            ]
        );
        assert_eq!(
            check(json!({"name": "x", "replicas": 0})),
            ["spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"]
        );
    }
}
