//! What a schema in a definition must fulfil before objects are held against it: every part has a type, lists that are
//! maps have keys, defaults fit, and rules compile for the values that they are about.

use super::correlation::{knows_elements, knows_fields};
use super::rules::RULES;
use super::validate;
use crate::expressions::typing::{Kind, Scope};
use crate::expressions::{Expression, estimate};
use crate::registry::faults::Faults;
use crate::registry::fields;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};

const DEEPEST: usize = 128;
const LIST_KEYS: &str = "x-kubernetes-list-map-keys";
const LIST_TYPE: &str = "x-kubernetes-list-type";

/// Every fault of a schema that stands at `path`.
pub(crate) fn faults(schema: &Value, path: &str, faults: &mut Faults) {
    let total = Total::default();
    let root = Part {
        schema,
        path: path.to_owned(),
        level: Level::Root,
        unknowable: None,
        most: Some(1),
        total: &total,
        depth: 0,
    };
    let kind = fields::text(schema, "/type");
    if !matches!(kind, "" | "object") {
        faults.invalid(format!("{path}.type"), &json!(kind), "must be object at the root");
    }
    metadata(schema, path, faults);
    root.check(faults);
    total.judge(path, faults);
}

/// What all rules of a schema may cost.
#[derive(Default)]
struct Total {
    sum: Cell<u64>,
    /// Those that count for something, with their places.
    costly: RefCell<Vec<(u64, String)>>,
}

impl Total {
    fn add(&self, at: &str, cost: u64) {
        self.sum.set(self.sum.get().saturating_add(cost));
        if cost >= estimate::TOTAL / 100 {
            self.costly.borrow_mut().push((cost, at.to_owned()));
        }
    }

    fn judge(&self, path: &str, faults: &mut Faults) {
        const MOST: usize = 4;
        if self.sum.get() <= estimate::TOTAL {
            return;
        }
        let mut costly = self.costly.take();
        costly.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in costly.into_iter().take(MOST) {
            let part =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            faults.forbidden(at, part);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        faults.forbidden(path, &estimate::excess(what, self.sum.get(), estimate::TOTAL));
    }
}

/// Metadata is known without a schema, which may narrow names alone.
fn metadata(schema: &Value, path: &str, faults: &mut Faults) {
    let Some(metadata) = schema.pointer("/properties/metadata").and_then(Value::as_object) else { return };
    let path = format!("{path}.properties[metadata]");
    let named = |value: &Value| {
        fields::pairs(value, "/properties").all(|(name, _)| matches!(name, "name" | "generateName"))
    };
    let plain = |name: &String| matches!(name.as_str(), "type" | "properties" | "description");
    if !metadata.keys().all(plain) || !named(&Value::Object(metadata.clone())) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        faults.forbidden(path, detail);
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
    /// How many values of it an object may have, where the schemas around it say so.
    most: Option<u64>,
    /// What all rules may cost, so far.
    total: &'a Total,
    depth: usize,
}

impl<'a> Part<'a> {
    fn check(&self, faults: &mut Faults) {
        if self.depth > DEEPEST {
            return;
        }
        self.kind(faults);
        self.forms(faults);
        self.list(faults);
        self.fallback(faults);
        self.rules(faults);
        let free = |schema: &Value| !knows_fields(schema);
        let unknowable = || self.unknowable.clone().or_else(|| free(self.schema).then(|| self.path.clone()));
        for (name, schema) in fields::pairs(self.schema, "/properties") {
            let path = format!("{}.properties[{name}]", self.path);
            self.inner(schema, path, Level::Field, unknowable()).check(faults);
        }
        if let Some(schema) = self.schema.get("additionalProperties").filter(|inner| inner.is_object()) {
            let path = format!("{}.additionalProperties", self.path);
            self.inner(schema, path, Level::Field, unknowable()).check(faults);
        }
        if let Some(schema) = self.schema.get("items").filter(|inner| inner.is_object()) {
            let unknowable = self.unknowable.clone();
            let unknowable = unknowable.or_else(|| (!knows_elements(self.schema)).then(|| self.path.clone()));
            self.inner(schema, format!("{}.items", self.path), Level::Item, unknowable).check(faults);
        }
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
        Part { schema, path, level, unknowable, most, total: self.total, depth: self.depth + 1 }
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
            "" if !untyped => faults.required(
                place,
                match self.level {
                    Level::Root => "must not be empty at the root",
                    Level::Field => "must not be empty for specified object fields",
                    Level::Item => "must not be empty for specified array items",
                },
            ),
            "null" => faults.forbidden(place, "type cannot be set to null, use nullable as an alternative"),
            "array" if self.schema.get("items").is_none() => {
                faults.required(format!("{}.items", self.path), "must be specified");
            }
            _ => {}
        }
    }

    fn forms(&self, faults: &mut Faults) {
        if self.is("uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            faults.forbidden(format!("{}.uniqueItems", self.path), detail);
        }
        let others = self.schema.get("additionalProperties");
        let named = fields::pairs(self.schema, "/properties").next().is_some();
        let detail = match others {
            Some(Value::Bool(false)) => Some("additionalProperties cannot be set to false"),
            Some(_) if named => Some("additionalProperties and properties are mutual exclusive"),
            _ => None,
        };
        if let Some(detail) = detail {
            faults.forbidden(format!("{}.additionalProperties", self.path), detail);
        }
    }

    fn list(&self, faults: &mut Faults) {
        let (kind, keys) = (self.text(LIST_TYPE), fields::list(self.schema, &format!("/{LIST_KEYS}")));
        let place = format!("{}.{LIST_TYPE}", self.path);
        match kind {
            "" if !keys.is_empty() => {
                faults.required(place, "must be map if x-kubernetes-list-map-keys is non-empty");
            }
            "" => {}
            "atomic" | "map" | "set" if self.text("type") != "array" => {
                let detail = "must be array if x-kubernetes-list-type is specified";
                faults.invalid(format!("{}.type", self.path), &json!(self.text("type")), detail);
            }
            "map" => self.keys(keys, faults),
            "atomic" | "set" => {}
            other => faults.not_supported(place, other, &["atomic", "map", "set"]),
        }
    }

    /// Each key of a list that is a map is a field of its elements, and always there.
    fn keys(&self, keys: &[Value], faults: &mut Faults) {
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            faults.required(format!("{}.{LIST_KEYS}", self.path), detail);
        }
        let required = fields::list(self.schema, "/items/required");
        for key in keys.iter().filter_map(Value::as_str) {
            match self.schema.pointer("/items/properties").and_then(|properties| properties.get(key)) {
                None => {
                    let detail = "entries must all be names of item properties";
                    faults.invalid(format!("{}.{LIST_KEYS}", self.path), &keys.to_vec().into(), detail);
                }
                Some(field) if field.get("default").is_none() && !required.iter().any(|name| name == key) => {
                    let place = format!("{}.items.properties[{key}].default", self.path);
                    let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    faults.required(place, detail);
                }
                Some(_) => {}
            }
        }
    }

    fn fallback(&self, faults: &mut Faults) {
        let Some(default) = self.schema.get("default").filter(|default| !default.is_null()) else { return };
        faults.extend(validate::default(self.schema, default, &format!("{}.default", self.path)));
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
        let source = fields::text(rule, "/rule");
        let (at, told) = (format!("{place}.rule"), fields::text(rule, "/message"));
        if source.trim().is_empty() {
            faults.required(at, "rule is not specified");
            return;
        }
        let computed = fields::text(rule, "/messageExpression");
        if source.trim().contains('\n') && told.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            faults.required(format!("{place}.message"), detail);
        } else if told.trim().contains('\n') {
            let detail = "message must not contain line breaks";
            faults.invalid(format!("{place}.message"), &json!(told), detail);
        }
        match kind_of(source, scope) {
            Err(why) => faults.invalid(at.clone(), &json!(source), &why),
            Ok(Kind::Any | Kind::Bool) => self.cost(source, &at, faults),
            Ok(_) => faults.invalid(at.clone(), &json!(source), "cel expression must evaluate to a bool"),
        }
        match kind_of(computed, scope) {
            _ if computed.is_empty() => {}
            Err(why) => faults.invalid(format!("{place}.messageExpression"), &json!(computed), &why),
            Ok(Kind::Any | Kind::Text) => {}
            Ok(_) => {
                let detail = "messageExpression must evaluate to a string";
                faults.invalid(format!("{place}.messageExpression"), &json!(computed), detail);
            }
        }
        if let Some(from) = self.unknowable.as_ref().filter(|_| source.contains("oldSelf")) {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {from}");
            faults.invalid(at, &json!(source), &detail);
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
                .contains(r#"supported values: "atomic", "map", "set""#)
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
            r#"s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: "self.m > 0": compilation failed: ERROR: <input>:1:5: undefined field 'm'"#
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
