//! What a schema in a definition must fulfil before objects are held against it: every part has a type, lists that are
//! maps have keys, defaults fit, and rules compile for the values that they are about.

mod field_path;
mod forms;
mod junctors;
mod rule;
mod total;

pub(crate) use field_path::follow;

use super::correlation::{knows_elements, knows_fields};
use super::prune;
use super::rules::RULES;
use super::validate;
use crate::expressions::typing::{Kind, Scope};
use crate::expressions::{Expression, estimate};
use crate::registry::faults::Faults;
use crate::registry::fields;
use serde_json::{Value, json};
use total::Total;

const DEEPEST: usize = 128;
const LIST_KEYS: &str = "x-kubernetes-list-map-keys";
const LIST_TYPE: &str = "x-kubernetes-list-type";

/// Every fault of a schema that stands at `path`. What rules say is looked at once nothing else is wrong: what they would
/// be about is not known before.
pub(crate) fn faults(schema: &Value, path: &str, faults: &mut Faults) {
    let total = Total::default();
    let root = Part {
        schema,
        path: path.to_owned(),
        level: Level::Root,
        unknowable: None,
        metadata: None,
        most: Some(1),
        total: &total,
        depth: 0,
    };
    let mut shape = Faults::default();
    let kind = fields::text(schema, "/type");
    if !matches!(kind, "" | "object") {
        shape.invalid(format!("{path}.type"), &json!(kind), "must be object at the root");
    }
    if forms::is(schema, "nullable") {
        shape.forbidden(format!("{path}.nullable"), "nullable cannot be true at the root");
    }
    junctors::described(schema, path, &mut shape);
    root.check(&mut shape);
    let sound = shape.is_empty();
    faults.extend(shape.into_causes());
    if sound {
        root.compile(faults);
        total.judge(path, faults);
    }
}

/// Where a schema stands in the one around it.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

struct Part<'a> {
    schema: &'a Value,
    path: String,
    level: Level,
    /// The schema around it from which on nobody knows what a value was before.
    unknowable: Option<String>,
    /// Inside of what every object has: why no default may stand there, where none may.
    metadata: Option<Option<String>>,
    /// How many values of it an object may have, where the schemas around it say so.
    most: Option<u64>,
    /// What all rules may cost, so far.
    total: &'a Total,
    depth: usize,
}

impl<'a> Part<'a> {
    /// Everything but what rules say.
    fn check(&self, faults: &mut Faults) {
        if self.depth > DEEPEST {
            return;
        }
        let root = self.level == Level::Root;
        self.kind(faults);
        forms::allowed(self.schema, &self.path, faults);
        forms::extensions(self.schema, &self.path, faults);
        forms::resource(self.schema, root, &self.path, faults);
        junctors::narrowing_of(self.schema, &self.path, faults);
        let others = self.schema.get("additionalProperties").is_some_and(|others| !others.is_null());
        if root && others {
            faults.forbidden(format!("{}.additionalProperties", self.path), "must not be used at the root");
        }
        self.list(faults);
        self.fallback(faults);
        for (index, rule) in fields::list(self.schema, RULES).iter().enumerate() {
            rule::words(
                rule,
                self.schema,
                &format!("{}.x-kubernetes-validations[{index}]", self.path),
                faults,
            );
        }
        self.children().iter().for_each(|child| child.check(faults));
    }

    /// What rules say.
    fn compile(&self, faults: &mut Faults) {
        if self.depth <= DEEPEST {
            self.rules(faults);
            self.children().iter().for_each(|child| child.compile(faults));
        }
    }

    /// The schemas of fields and elements.
    fn children(&self) -> Vec<Part<'a>> {
        let free = !knows_fields(self.schema);
        let unknowable = || self.unknowable.clone().or_else(|| free.then(|| self.path.clone()));
        let mut children = Vec::new();
        for (name, schema) in fields::pairs(self.schema, "/properties") {
            let path = format!("{}.properties[{name}]", self.path);
            let mut child = self.inner(schema, path, Level::Field, unknowable());
            child.metadata = self.metadata_of(name).or(child.metadata);
            children.push(child);
        }
        if let Some(schema) = self.schema.get("additionalProperties").filter(|inner| inner.is_object()) {
            let path = format!("{}.additionalProperties", self.path);
            let mut child = self.inner(schema, path, Level::Field, unknowable());
            let why = "inside additionalProperties applying to object metadata";
            child.metadata = child.metadata.map(|_| Some(why.to_owned()));
            children.push(child);
        }
        if let Some(schema) = self.schema.get("items").filter(|inner| inner.is_object()) {
            let unknowable = self.unknowable.clone();
            let unknowable = unknowable.or_else(|| (!knows_elements(self.schema)).then(|| self.path.clone()));
            children.push(self.inner(schema, format!("{}.items", self.path), Level::Item, unknowable));
        }
        children
    }

    /// Whether a field is one that every object has.
    fn metadata_of(&self, name: &str) -> Option<Option<String>> {
        let root = self.level == Level::Root;
        let general = matches!(name, "apiVersion" | "kind" | "metadata");
        let object = root || self.is("x-kubernetes-embedded-resource");
        (general && object).then(|| root.then(|| format!("in top-level {name}")))
    }

    fn inner(&self, schema: &'a Value, path: String, level: Level, unknowable: Option<String>) -> Part<'a> {
        let elements = match self.text("type") {
            "array" => self.schema.get("maxItems").and_then(Value::as_u64),
            "object" if self.schema.get("additionalProperties").is_some_and(Value::is_object) => {
                self.schema.get("maxProperties").and_then(Value::as_u64)
            }
            _ => Some(1),
        };
        let most = self.most.zip(elements).map(|(most, elements)| most.saturating_mul(elements));
        let metadata = self.metadata.clone();
        Part { schema, path, level, unknowable, metadata, most, total: self.total, depth: self.depth + 1 }
    }

    /// A rule that may cost too much, for all values of this part.
    fn cost(&self, source: &str, at: &str, faults: &mut Faults) {
        let Ok(expression) = Expression::compile(source) else { return };
        let values = self.most.unwrap_or_else(|| estimate::most_values(self.schema));
        let cost = expression.estimated_cost(self.schema).saturating_mul(values);
        self.total.add(at, cost);
        if cost > estimate::LIMIT {
            faults.forbidden(at, &estimate::excess("estimated rule cost", cost, estimate::LIMIT));
        }
    }

    fn text(&self, field: &str) -> &str {
        self.schema.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, field: &str) -> bool {
        self.schema.get(field) == Some(&Value::Bool(true))
    }

    fn kind(&self, faults: &mut Faults) {
        let untyped =
            self.is("x-kubernetes-int-or-string") || self.is("x-kubernetes-preserve-unknown-fields");
        let place = format!("{}.type", self.path);
        match self.text("type") {
            "" if !untyped && !self.is("x-kubernetes-embedded-resource") => faults.required(
                place,
                match self.level {
                    Level::Root => "must not be empty at the root",
                    Level::Field => "must not be empty for specified object fields",
                    Level::Item => "must not be empty for specified array items",
                },
            ),
            "array" if self.schema.get("items").is_none() => {
                faults.required(format!("{}.items", self.path), "must be specified");
            }
            _ => {}
        }
    }

    fn list(&self, faults: &mut Faults) {
        let (kind, keys) = (self.text(LIST_TYPE), fields::list(self.schema, &format!("/{LIST_KEYS}")));
        let place = format!("{}.{LIST_TYPE}", self.path);
        if !keys.is_empty() && kind != "map" {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            match kind {
                "" => faults.required(place.as_str(), detail),
                other => faults.invalid(place.as_str(), &json!(other), detail),
            }
        }
        if kind.is_empty() {
            return;
        }
        forms::must_be(self.schema, "array", &format!("if {LIST_TYPE} is specified"), &self.path, faults);
        match kind {
            "map" => self.keys(keys, faults),
            "atomic" | "set" => {}
            other => faults.not_supported(place, other, &["atomic", "set", "map"]),
        }
        if matches!(kind, "map" | "set") && self.schema.pointer("/items/nullable") == Some(&Value::Bool(true))
        {
            let detail = format!("cannot be nullable when {LIST_TYPE} is {kind}");
            faults.forbidden(format!("{}.items.nullable", self.path), &detail);
        }
    }

    /// Each key of a list that is a map is a field of its elements, and always there.
    fn keys(&self, keys: &[Value], faults: &mut Faults) {
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            faults.required(format!("{}.{LIST_KEYS}", self.path), detail);
        }
        let Some(items) = self.schema.get("items") else {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            return faults.required(format!("{}.items", self.path), detail);
        };
        let kind = fields::text(items, "/type");
        if kind != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            return faults.invalid(format!("{}.items.type", self.path), &json!(kind), detail);
        }
        let mut seen = Vec::new();
        for key in keys.iter().filter_map(Value::as_str) {
            self.key(key, items, keys, faults);
            if seen.contains(&key) {
                let detail = "must not contain duplicate entries";
                faults.invalid(format!("{}.{LIST_KEYS}", self.path), &keys.to_vec().into(), detail);
            }
            seen.push(key);
        }
    }

    fn key(&self, key: &str, items: &Value, keys: &[Value], faults: &mut Faults) {
        let Some(field) = items.get("properties").and_then(|properties| properties.get(key)) else {
            let detail = "entries must all be names of item properties";
            return faults.invalid(format!("{}.{LIST_KEYS}", self.path), &keys.to_vec().into(), detail);
        };
        let place = format!("{}.items.properties[{key}]", self.path);
        if matches!(fields::text(field, "/type"), "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            faults.invalid(format!("{place}.type"), &json!(fields::text(items, "/type")), detail);
        }
        let this = "this property is in x-kubernetes-list-map-keys, so it";
        let required = fields::list(items, "/required").iter().any(|name| name == key);
        if !required && field.get("default").is_none() {
            let detail = format!("{this} must have a default or be a required property");
            faults.required(format!("{place}.default"), &detail);
        }
        if forms::is(field, "nullable") {
            faults.forbidden(format!("{place}.nullable"), &format!("{this} cannot be nullable"));
        }
    }

    fn fallback(&self, faults: &mut Faults) {
        let Some(default) = self.schema.get("default").filter(|default| !default.is_null()) else { return };
        let place = format!("{}.default", self.path);
        if let Some(Some(why)) = &self.metadata {
            return faults.forbidden(place, &format!("must not be set {why}"));
        }
        let mut whole = default.clone();
        if !self.is("x-kubernetes-embedded-resource") && self.metadata.is_none() {
            prune(self.schema, &mut whole);
        }
        if whole != *default {
            return faults.invalid(place, default, "must not have unknown fields");
        }
        faults.extend(validate::default(self.schema, default, &place));
    }

    fn rules(&self, faults: &mut Faults) {
        let rules = fields::list(self.schema, RULES);
        if rules.is_empty() {
            return;
        }
        let own = Kind::of_rule(self.schema, self.level == Level::Root);
        for (index, rule) in rules.iter().enumerate() {
            let optional = fields::flag(rule, "/optionalOldSelf");
            let old = if optional { Kind::Any } else { own.clone() };
            let scope = Scope::default().with("self", own.clone()).with("oldSelf", old);
            let place = format!("{}.x-kubernetes-validations[{index}]", self.path);
            self.rule(rule, &scope, &place, faults);
        }
    }

    fn rule(&self, rule: &Value, scope: &Scope, place: &str, faults: &mut Faults) {
        let (source, at) = (fields::text(rule, "/rule"), format!("{place}.rule"));
        match kind_of(source, scope) {
            Err(why) => faults.invalid_shown(at.as_str(), &rule::shown(rule), &why),
            Ok(Kind::Any | Kind::Bool) => self.cost(source, &at, faults),
            Ok(_) => {
                let detail = "cel expression must evaluate to a bool";
                faults.invalid_shown(at.as_str(), &rule::shown(rule), detail);
            }
        }
        let computed = fields::text(rule, "/messageExpression");
        let told = match kind_of(computed, scope) {
            _ if computed.is_empty() => None,
            Err(why) => Some(format!("messageExpression {why}")),
            Ok(Kind::Any | Kind::Text) => None,
            Ok(_) => Some("messageExpression must evaluate to a string".to_owned()),
        };
        if let Some(detail) = told {
            faults.invalid_shown(format!("{place}.messageExpression"), &rule::shown(rule), &detail);
        }
        let compares = source.contains("oldSelf");
        if let Some(from) = self.unknowable.as_ref().filter(|_| compares) {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {from}");
            faults.invalid(at, &json!(source), &detail);
        }
        if let Some(optional) = rule.get("optionalOldSelf").filter(|value| !compares && !value.is_null()) {
            let detail = "may not be set if oldSelf is not used in rule";
            faults.invalid(format!("{place}.optionalOldSelf"), optional, detail);
        }
    }
}

fn kind_of(source: &str, scope: &Scope) -> Result<Kind, String> {
    Expression::compile(source)?.kind_in(scope).map_err(|why| format!("compilation failed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(schema: &Value) -> Vec<String> {
        let mut found = Faults::default();
        faults(schema, "s", &mut found);
        let causes = found.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    fn of_spec(spec: Value) -> Vec<String> {
        told(&json!({"type": "object", "properties": {"spec": spec}}))
    }

    #[test]
    fn every_part_has_a_type() {
        assert_eq!(told(&json!({})), ["s.type: Required value: must not be empty at the root"]);
        assert_eq!(told(&json!({"type": "array", "items": {"type": "string"}})).len(), 1);
        let spec = json!({"type": "object", "properties": {"a": {}, "b": {"type": "array", "items": {}},
            "c": {"x-kubernetes-int-or-string": true}, "d": {"type": "array"}}});
        assert_eq!(
            of_spec(spec),
            [
                "s.properties[spec].properties[a].type: Required value: must not be empty for specified object fields",
                "s.properties[spec].properties[b].items.type: Required value: must not be empty for specified array items",
                "s.properties[spec].properties[d].items: Required value: must be specified",
            ]
        );
    }

    #[test]
    fn lists_that_are_maps_have_keys() {
        let list = |more: Value| {
            let mut list = json!({"type": "array", "x-kubernetes-list-type": "map",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}}});
            list.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of_spec(list)
        };
        assert!(list(json!({}))[0].ends_with("must not be empty if x-kubernetes-list-type is map"));
        assert!(
            list(json!({"x-kubernetes-list-map-keys": ["other"]}))[0].contains("names of item properties")
        );
        assert!(
            list(json!({"x-kubernetes-list-map-keys": ["name"]}))[0]
                .contains("have a default or be a required")
        );
        assert!(
            list(json!({"x-kubernetes-list-type": "bag"}))[0]
                .contains(r#"supported values: "atomic", "set", "map""#)
        );
    }

    #[test]
    fn defaults_fit() {
        let spec = json!({"type": "object", "properties": {"n": {"type": "integer", "default": "x"}}});
        assert_eq!(
            of_spec(spec),
            [
                r#"s.properties[spec].properties[n].default: Invalid value: "string": default in body must be of type integer: "string""#
            ]
        );
    }

    #[test]
    fn rules_compile_for_their_values() {
        let rules = |rules: Value| {
            of_spec(
                json!({"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": rules}),
            )
        };
        assert!(rules(json!([{"rule": "self.n > 0 && has(self.n)"}])).is_empty());
        let unknown = rules(json!([{"rule": "self.m > 0"}]));
        assert!(unknown[0].starts_with(
            r#"s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.m \u003e 0","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: compilation failed: ERROR: <input>:1:5: undefined field 'm'"#
        ), "{unknown:?}");
        assert!(rules(json!([{"rule": "self.n >"}]))[0].contains("compilation failed"));
        assert!(rules(json!([{"rule": "1"}]))[0].ends_with("cel expression must evaluate to a bool"));
        assert!(rules(json!([{"rule": ""}]))[0].ends_with("rule is not specified"));
        let computed = json!([{"rule": "true", "messageExpression": "1"}]);
        assert!(rules(computed)[0].ends_with("messageExpression must evaluate to a string"));
    }

    #[test]
    fn rules_that_may_cost_too_much_are_refused() {
        let list = |most: u64| {
            let mut list = json!({"type": "array", "items": {"type": "integer"},
                "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x + y >= 0))"}]});
            if most > 0 {
                list["maxItems"] = most.into();
            }
            list
        };
        assert!(of_spec(list(100)).is_empty());
        let told = of_spec(list(0));
        let rule = "s.properties[spec].x-kubernetes-validations[0].rule: Forbidden: ";
        assert!(told[0].starts_with(&format!(
            "{rule}estimated rule cost exceeds budget by factor of more than 100x (try"
        )));
        assert!(told[1].starts_with(&format!("{rule}contributed to estimated rule cost total")), "{told:?}");
        assert!(
            told[2].starts_with("s: Forbidden: x-kubernetes-validations estimated rule cost total"),
            "{told:?}"
        );
    }

    #[test]
    fn a_rule_about_what_was_stands_where_that_is_known() {
        let item = json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]});
        let found = of_spec(json!({"type": "array", "maxItems": 10, "items": item}));
        assert!(
            found[0].ends_with(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec]"
            ),
            "{found:?}"
        );
    }
}
