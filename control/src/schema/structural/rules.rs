//! `x-kubernetes-validations`: rules in CEL that the author of a custom resource writes into its schema, at any depth.
//! `self` is the value the rule stands at, `oldSelf` what it was before the change.

use crate::expressions::{Expression, Variables};
use crate::registry::{Cause, fields};
use serde_json::{Map, Value};

const RULES: &str = "/x-kubernetes-validations";
const DEEPEST: usize = 128;
/// Words of CEL that properties may be called by; they are written `__in__`.
const RESERVED: [&str; 20] = [
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
];

/// Every rule that the object breaks.
pub(crate) fn check(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(schema, new, old, "", &mut causes, 0);
    causes
}

/// Every rule of a schema that cannot be compiled, with its place below `path`.
pub(crate) fn faults(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (index, rule) in fields::list(schema, RULES).iter().enumerate() {
        for field in ["rule", "messageExpression"] {
            let source = fields::text(rule, &format!("/{field}"));
            if source.is_empty() && field == "messageExpression" {
                continue;
            }
            if let Err(why) = Expression::compile(source) {
                let field = format!("{path}.x-kubernetes-validations[{index}].{field}");
                let message = format!("Invalid value: {source:?}: {why}");
                causes.push(Cause { reason: "FieldValueInvalid", field, message });
            }
        }
    }
    for (name, property) in fields::pairs(schema, "/properties") {
        faults(property, &format!("{path}.properties[{name}]"), causes);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(name).filter(|inner| inner.is_object()) {
            faults(inner, &format!("{path}.{name}"), causes);
        }
    }
}

fn walk(schema: &Value, new: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>, depth: usize) {
    if depth > DEEPEST || new.is_null() {
        return;
    }
    for rule in fields::list(schema, RULES) {
        causes.extend(check_rule(rule, schema, new, old, path));
    }
    match new {
        Value::Object(map) => {
            for (name, value) in map {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                let (inner, place) = match known {
                    Some(inner) => (Some(inner), join(path, name)),
                    None => (schema.get("additionalProperties"), format!("{path}[{name}]")),
                };
                if let Some(inner) = inner {
                    let before = old.and_then(|old| old.get(name));
                    walk(inner, value, before, &place, causes, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| counterpart(schema, item, old));
                walk(inner, item, before, &format!("{path}[{index}]"), causes, depth + 1);
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What an element of a list was before: lists that are maps know it by its keys, others do not.
fn counterpart<'a>(schema: &Value, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if fields::text(schema, "/x-kubernetes-list-type") != "map" {
        return None;
    }
    let keys: Vec<&str> =
        fields::list(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let same = |other: &&Value| keys.iter().all(|key| other.get(*key) == item.get(*key));
    old.as_array()?.iter().find(same)
}

fn check_rule(rule: &Value, schema: &Value, new: &Value, old: Option<&Value>, path: &str) -> Option<Cause> {
    let source = fields::text(rule, "/rule");
    let optional = fields::flag(rule, "/optionalOldSelf");
    if source.contains("oldSelf") && old.is_none() && !optional {
        return None;
    }
    let before = old.map_or(Value::Null, |old| escaped(schema, old));
    let variables = Variables::default().with("self", &escaped(schema, new)).with("oldSelf", &before);
    let detail = match Expression::compile(source).and_then(|expression| expression.holds(&variables)) {
        Ok(true) => return None,
        Ok(false) => message(rule, &variables).unwrap_or_else(|| format!("failed rule: {source}")),
        Err(why) => format!("rule evaluation error: {why}"),
    };
    let path = format!("{path}{}", fields::text(rule, "/fieldPath"));
    Some(cause(fields::text(rule, "/reason"), path.trim_start_matches('.'), schema, &detail))
}

fn cause(reason: &str, field: &str, schema: &Value, detail: &str) -> Cause {
    let kind = match fields::text(schema, "/type") {
        "" => "object",
        kind => kind,
    };
    let (reason, message) = match reason {
        "FieldValueForbidden" => ("FieldValueForbidden", format!("Forbidden: {detail}")),
        "FieldValueRequired" => ("FieldValueRequired", format!("Required value: {detail}")),
        "FieldValueDuplicate" => ("FieldValueDuplicate", format!("Duplicate value: {kind:?}")),
        _ => ("FieldValueInvalid", format!("Invalid value: {kind:?}: {detail}")),
    };
    Cause { reason, field: if field.is_empty() { "<nil>".to_owned() } else { field.to_owned() }, message }
}

fn message(rule: &Value, variables: &Variables) -> Option<String> {
    let computed = fields::text(rule, "/messageExpression");
    let computed = Some(computed).filter(|source| !source.is_empty());
    let computed = computed.and_then(|source| Expression::compile(source).ok()?.text(variables).ok());
    let plain = || fields::text(rule, "/message").to_owned();
    Some(computed.unwrap_or_else(plain)).filter(|text| !text.is_empty())
}

/// The value with those properties renamed that CEL could not name.
fn escaped(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties");
            let entry = |(name, value): (&String, &Value)| match properties.and_then(|known| known.get(name))
            {
                Some(inner) => (escaped_name(name), escaped(inner, value)),
                None => {
                    let inner = schema.get("additionalProperties").unwrap_or(&Value::Null);
                    (name.clone(), escaped(inner, value))
                }
            };
            Value::Object(map.iter().map(entry).collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            items.iter().map(|item| escaped(inner, item)).collect()
        }
        other => other.clone(),
    }
}

fn escaped_name(name: &str) -> String {
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

    fn schema(rules: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules, "properties": {
            "min": {"type": "integer"}, "max-size": {"type": "integer"}, "name": {"type": "string",
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}}}}})
    }

    fn faults_of(rules: Value, new: Value, old: Option<Value>) -> Vec<String> {
        let old = old.map(|spec| json!({"spec": spec}));
        let causes = check(&schema(rules), &json!({"spec": new}), old.as_ref());
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn rules_hold_or_say_why_not() {
        let rules = json!([{"rule": "self.min <= self.max__dash__size"}]);
        assert!(faults_of(rules.clone(), json!({"min": 1, "max-size": 2}), None).is_empty());
        assert_eq!(
            faults_of(rules, json!({"min": 3, "max-size": 2}), None),
            [r#"spec: Invalid value: "object": failed rule: self.min <= self.max__dash__size"#]
        );
        let computed = json!([{"rule": "self.min > 0", "messageExpression": "'min is ' + string(self.min)", "reason": "FieldValueForbidden", "fieldPath": ".min"}]);
        assert_eq!(faults_of(computed, json!({"min": 0}), None), ["spec.min: Forbidden: min is 0"]);
    }

    #[test]
    fn transitions_are_checked_on_change_only() {
        let of = |name: &str, old: Option<&str>| {
            faults_of(json!([]), json!({"name": name}), old.map(|old| json!({"name": old})))
        };
        assert!(of("a", None).is_empty() && of("a", Some("a")).is_empty());
        assert_eq!(of("b", Some("a")), [r#"spec.name: Invalid value: "string": is immutable"#]);
    }

    #[test]
    fn broken_rules_are_found() {
        let mut causes = Vec::new();
        faults(&schema(json!([{"rule": "self.min >"}])), "schema", &mut causes);
        assert_eq!(causes[0].field, "schema.properties[spec].x-kubernetes-validations[0].rule");
        assert!(causes[0].message.contains("compilation failed"), "{causes:?}");
    }
}
