//! Schemas under `allOf`, `anyOf`, `oneOf` and `not`. They narrow values that the schema around them describes, and
//! describe nothing themselves: each field that they speak of stands in the describing schema as well.

use super::forms;
use crate::registry::faults::Faults;
use crate::registry::fields;
use regex::RegexBuilder;
use serde_json::{Value, json};

const LISTS: [&str; 3] = ["anyOf", "allOf", "oneOf"];
const DEEPEST: usize = 128;
/// Fields that describe, and how they are told to be absent.
const DESCRIBING: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

/// Every fault of what stands under the junctors of a schema.
pub(super) fn narrowing_of(schema: &Value, path: &str, faults: &mut Faults) {
    let either = schema.get("anyOf").is_some_and(is_int_or_string);
    let first = schema.pointer("/allOf/0/anyOf").is_some_and(is_int_or_string);
    narrowing(schema, path, either, first, 0, faults);
}

/// Whatever the junctors at the root of a schema speak of is described by it. Kubernetes asks this of the root alone.
pub(super) fn described(schema: &Value, path: &str, faults: &mut Faults) {
    for (part, at) in parts(schema, path) {
        complete(part, Some(schema), path, &at, 0, faults);
    }
}

/// The one place where types may stand: a number or a text.
fn is_int_or_string(any: &Value) -> bool {
    *any == json!([{"type": "integer"}, {"type": "string"}])
}

/// The schemas right below the junctors of a schema.
fn parts<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String)> {
    let mut parts = Vec::new();
    for list in LISTS {
        let all = fields::list(schema, &format!("/{list}")).iter().enumerate();
        parts.extend(all.map(|(index, part)| (part, format!("{path}.{list}[{index}]"))));
    }
    parts.extend(schema.get("not").filter(|not| not.is_object()).map(|not| (not, format!("{path}.not"))));
    parts
}

/// `either`: the alternatives of `anyOf` are a number and a text. `first`: those of the first schema of `allOf` are.
fn narrowing(schema: &Value, path: &str, either: bool, first: bool, depth: usize, faults: &mut Faults) {
    let head = format!("{path}.allOf[0]");
    for (part, at) in parts(schema, path) {
        let of_any = at.strip_prefix(path).is_some_and(|rest| rest.starts_with(".anyOf["));
        if !(either && of_any) {
            nested(part, &at, first && at == head, depth, faults);
        } else {
            forms::allowed(part, &at, faults);
        }
    }
    let pattern = fields::text(schema, "/pattern");
    if let Err(why) = compiles(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        faults.invalid(format!("{path}.pattern"), &json!(pattern), &detail);
    }
}

fn nested(schema: &Value, path: &str, either: bool, depth: usize, faults: &mut Faults) {
    if depth > DEEPEST {
        return;
    }
    forms::allowed(schema, path, faults);
    narrowing(schema, path, either, false, depth + 1, faults);
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        nested(items, &format!("{path}.items"), false, depth + 1, faults);
    }
    for (name, field) in fields::pairs(schema, "/properties") {
        nested(field, &format!("{path}.properties[{name}]"), false, depth + 1, faults);
    }
    for (field, detail) in DESCRIBING {
        if schema.get(field).is_some_and(is_said) {
            faults.forbidden(format!("{path}.{field}"), detail);
        }
    }
    if !fields::list(schema, "/x-kubernetes-validations").is_empty() {
        faults.forbidden(format!("{path}.x-kubernetes-validations"), "must be empty to be structural");
    }
    if schema.pointer("/properties/metadata").is_some() {
        let detail = "must not be specified in a nested context";
        faults.forbidden(format!("{path}.properties[metadata]"), detail);
    }
}

fn is_said(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

/// What `schema`, at `path`, narrows is described by `whole`, which stands at `place`.
fn complete(
    schema: &Value,
    whole: Option<&Value>,
    place: &str,
    path: &str,
    depth: usize,
    faults: &mut Faults,
) {
    let Some(whole) = whole else {
        return faults.required(place, &format!("because it is defined in {path}"));
    };
    if depth > DEEPEST {
        return;
    }
    for (part, at) in parts(schema, path) {
        complete(part, Some(whole), place, &at, depth + 1, faults);
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        let (place, path) = (format!("{place}.items"), format!("{path}.items"));
        complete(items, whole.get("items"), &place, &path, depth + 1, faults);
    }
    for (name, field) in fields::pairs(schema, "/properties") {
        let inner = whole.get("properties").and_then(|properties| properties.get(name));
        let at = |base: &str| format!("{base}.properties[{name}]");
        complete(field, inner, &at(place), &at(path), depth + 1, faults);
    }
}

/// Whether a pattern can be used; why not, as Go says it.
fn compiles(pattern: &str) -> Result<(), String> {
    const LARGEST: usize = 1 << 20;
    let Err(error) = RegexBuilder::new(pattern).size_limit(LARGEST).build() else { return Ok(()) };
    let told = error.to_string();
    let lines: Vec<&str> = told.lines().collect();
    let why = lines.last().and_then(|line| line.strip_prefix("error: ")).unwrap_or("expression too large");
    let marked = lines.iter().rev().find_map(|line| {
        let (from, marks) = (line.find('^')?, line.matches('^').count());
        pattern.chars().skip(from.checked_sub(4)?).take(marks).collect::<String>().into()
    });
    let part = marked.unwrap_or_default();
    let from = |part: &str| pattern.find(part).map_or(pattern, |at| &pattern[at..]).to_owned();
    Err(match why {
        "unclosed group" => format!("error parsing regexp: missing closing ): `{pattern}`"),
        "unopened group" => format!("error parsing regexp: unexpected ): `{pattern}`"),
        "unclosed character class" => format!("error parsing regexp: missing closing ]: `{}`", from(&part)),
        "repetition operator missing expression" => {
            format!("error parsing regexp: missing argument to repetition operator: `{part}`")
        }
        "unrecognized escape sequence" => format!("error parsing regexp: invalid escape sequence: `{part}`"),
        why if why.starts_with("look-around") => {
            format!("error parsing regexp: invalid or unsupported Perl syntax: `{part}`")
        }
        why if why.starts_with("backreferences") => {
            format!("error parsing regexp: invalid escape sequence: `{part}`")
        }
        why if why.starts_with("invalid character class range") => {
            format!("error parsing regexp: invalid character class range: `{part}`")
        }
        why => format!("error parsing regexp: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(schema: &Value) -> Vec<String> {
        let mut found = Faults::default();
        described(schema, "s", &mut found);
        narrowing_of(schema, "s", &mut found);
        let causes = found.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn what_narrows_describes_nothing() {
        let whole = |narrow: Value| {
            let mut schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
            schema.as_object_mut().unwrap().extend(narrow.as_object().unwrap().clone());
            told(&schema)
        };
        let fine = json!({"oneOf": [{"required": ["a"]}, {"properties": {"a": {"minLength": 3}}}], "not": {"required": ["b"]}});
        assert!(whole(fine).is_empty());
        assert!(whole(json!({"anyOf": [{"type": "integer"}, {"type": "string"}]})).is_empty());
        assert!(whole(json!({"allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]})).is_empty());
        for (narrow, words) in [
            (
                json!({"allOf": [{"type": "object"}]}),
                "s.allOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                json!({"anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]}),
                "s.anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural",
            ),
            (
                json!({"not": {"properties": {"metadata": {}}}}),
                "s.not.properties[metadata]: Forbidden: must not be specified in a nested context",
            ),
            (
                json!({"not": {"properties": {"b": {}}}}),
                "s.properties[b]: Required value: because it is defined in s.not.properties[b]",
            ),
            (
                json!({"oneOf": [{"properties": {"a": {"items": {}}}}]}),
                "s.properties[a].items: Required value: because it is defined in s.oneOf[0].properties[a].items",
            ),
            (
                json!({"allOf": [{"nullable": true}]}),
                "s.allOf[0].nullable: Forbidden: must be false to be structural",
            ),
            (json!({"allOf": [{"$ref": "#/x"}]}), "s.allOf[0].$ref: Forbidden: $ref is not supported"),
        ] {
            let found = whole(narrow);
            assert!(found.contains(&words.to_owned()), "{words}: {found:?}");
        }
    }

    #[test]
    fn patterns_compile() {
        for (pattern, words) in [
            ("^[a-z]+$", ""),
            ("a(b", "missing closing ): `a(b`"),
            ("a)b", "unexpected ): `a)b`"),
            ("a[b", "missing closing ]: `[b`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            let found = told(&json!({"type": "string", "pattern": pattern}));
            let wanted = format!(
                "s.pattern: Invalid value: {pattern:?}: must be a valid regular expression, but isn't: error parsing regexp: {words}"
            );
            assert_eq!(found, if words.is_empty() { vec![] } else { vec![wanted] });
        }
    }
}
