//! `x-kubernetes-validations`: rules in CEL that the author of a custom resource writes into its schema, at any depth.
//! `self` is the value the rule stands at, `oldSelf` what it was before the change. A rule that a change finds broken,
//! and that is about nothing the change touches, stays so.

use super::correlation::{counterpart, knows_fields};
use crate::expressions::{Expression, Variables, cost};
use crate::registry::{Cause, fields};
use serde_json::Value;

pub(super) const RULES: &str = "/x-kubernetes-validations";
const DEEPEST: usize = 128;
/// What all rules of one object may cost.
const BUDGET: Option<u64> = Some(10_000_000);

/// Said where a rule costs too much.
const NOTHING_MORE: &str = "no further validation rules will be run";

/// Every rule that the object breaks.
pub(crate) fn check(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut found = Found { causes: Vec::new(), left: BUDGET };
    walk(schema, Place { new, old, unchanged: false, path: String::new() }, &mut found, 0);
    found.causes
}

/// What was found so far, and what the rules of the object may still cost: nothing once that is gone.
struct Found {
    causes: Vec<Cause>,
    left: Option<u64>,
}

/// Whether there is a rule anywhere in a schema.
pub(crate) fn has_any(schema: &Value) -> bool {
    !fields::list(schema, RULES).is_empty()
        || fields::pairs(schema, "/properties").any(|(_, inner)| has_any(inner))
        || ["items", "additionalProperties"].iter().any(|name| schema.get(name).is_some_and(has_any))
}

/// A value that rules may stand at.
struct Place<'a> {
    new: &'a Value,
    old: Option<&'a Value>,
    /// It is a part of something that is as it was, without being known one by one.
    unchanged: bool,
    path: String,
}

impl Place<'_> {
    /// Whether the change has nothing to do with it.
    fn is_as_it_was(&self) -> bool {
        self.old.map_or(self.unchanged, |old| old == self.new)
    }
}

fn walk(schema: &Value, place: Place<'_>, found: &mut Found, depth: usize) {
    let Place { new, old, ref path, .. } = place;
    if depth > DEEPEST || new.is_null() || found.left.is_none() {
        return;
    }
    let unchanged = place.is_as_it_was();
    let rules = fields::list(schema, RULES);
    if !rules.is_empty() {
        check_rules(rules, schema, &place, found);
    }
    match new {
        Value::Object(map) => {
            let old = old.filter(|_| knows_fields(schema));
            for (name, value) in map {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                let (inner, path) = match known {
                    Some(inner) => (Some(inner), join(path, name)),
                    None => (schema.get("additionalProperties"), format!("{path}[{name}]")),
                };
                if let Some(inner) = inner {
                    let old = old.and_then(|old| old.get(name));
                    walk(inner, Place { new: value, old, unchanged, path }, found, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                let (old, path) = (counterpart(schema, item, old), format!("{path}[{index}]"));
                walk(inner, Place { new: item, old, unchanged, path }, found, depth + 1);
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn check_rules(rules: &[Value], schema: &Value, place: &Place<'_>, found: &mut Found) {
    let known = Variables::default().with_shaped("self", Some(place.new), schema);
    let variables = known.clone().with_shaped("oldSelf", place.old, schema);
    for rule in rules {
        let (cause, cost) = if fields::flag(rule, "/optionalOldSelf") {
            check_rule(rule, schema, place, &known.clone().with_optional("oldSelf", place.old, schema))
        } else {
            check_rule(rule, schema, place, &variables)
        };
        found.left = found.left.and_then(|left| left.checked_sub(cost));
        if found.left.is_none() {
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            return found.causes.push(self::cause("", &place.path, schema, why));
        }
        let ended = cause.as_ref().is_some_and(|cause| cause.message.contains(NOTHING_MORE));
        found.causes.extend(cause);
        if ended {
            found.left = None;
            return;
        }
    }
}

fn check_rule(
    rule: &Value,
    schema: &Value,
    place: &Place<'_>,
    variables: &Variables,
) -> (Option<Cause>, u64) {
    let source = fields::text(rule, "/rule");
    let compares = source.contains("oldSelf");
    let optional = fields::flag(rule, "/optionalOldSelf");
    if source.is_empty() || (compares && place.old.is_none() && !optional) {
        return (None, 0);
    }
    let held = Expression::compile(source).map_err(|why| format!("rule compile error: {why}"));
    let held =
        held.and_then(|expression| expression.holds(variables).map_err(|why| not_evaluated(&why, rule)));
    let spent = cost::spent();
    let detail = match held {
        Ok(true) => return (None, spent),
        Ok(false) if !compares && place.is_as_it_was() => return (None, spent),
        Ok(false) => message(rule, variables).unwrap_or_else(|| format!("failed rule: {}", source.trim())),
        Err(detail) => return (Some(cause("", &place.path, schema, &detail)), spent),
    };
    let path = format!("{}{}", place.path, fields::text(rule, "/fieldPath"));
    (Some(cause(fields::text(rule, "/reason"), path.trim_start_matches('.'), schema, &detail)), spent)
}

/// Why a rule has no answer, and which one.
fn not_evaluated(why: &str, rule: &Value) -> String {
    let told = match fields::text(rule, "/message").trim() {
        "" => fields::text(rule, "/rule").trim(),
        message => message,
    };
    if why.starts_with("no such overload") {
        return format!(
            "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
        );
    }
    if why.starts_with("operation cancelled") {
        return format!("'{why}': {NOTHING_MORE} due to call cost exceeds limit for rule: {told}");
    }
    format!("{why} evaluating rule: {told}")
}

fn cause(reason: &str, field: &str, schema: &Value, detail: &str) -> Cause {
    let kind = fields::text(schema, "/type");
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
    // What would not fit into one line, or says nothing, is no message.
    let computed = computed.filter(|text| !text.trim().is_empty() && !text.contains('\n'));
    let plain = || fields::text(rule, "/message").trim().to_owned();
    Some(computed.unwrap_or_else(plain)).filter(|text| !text.is_empty())
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
    fn what_a_change_leaves_alone_may_stay_broken() {
        let rules = json!([{"rule": "self.min <= self.max__dash__size"}]);
        let broken = json!({"min": 3, "max-size": 2});
        assert!(faults_of(rules.clone(), broken.clone(), Some(broken.clone())).is_empty());
        let touched = json!({"min": 4, "max-size": 2});
        assert_eq!(faults_of(rules, touched, Some(broken)).len(), 1);
    }

    #[test]
    fn what_was_may_be_optional() {
        let rules = json!([{"rule": "oldSelf.hasValue() || self.min == 1", "optionalOldSelf": true}]);
        assert!(faults_of(rules.clone(), json!({"min": 1}), None).is_empty());
        assert_eq!(faults_of(rules.clone(), json!({"min": 2}), None).len(), 1);
        assert!(faults_of(rules, json!({"min": 2}), Some(json!({}))).is_empty());
    }

    #[test]
    fn rules_that_cost_too_much_end_the_search() {
        let numbers = |rules: Value| {
            json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer"},
            "x-kubernetes-validations": rules}}})
        };
        let faults = |rules: Value, size: usize| -> Vec<String> {
            let list: Vec<usize> = (0..size).collect();
            let causes = check(&numbers(rules), &json!({"list": list}), None);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        let costly = json!({"rule": "self.all(x, self.all(y, x + y >= 0))"});
        let broken = json!({"rule": "false"});
        assert_eq!(
            faults(json!([costly, broken]), 725),
            [
                r#"list: Invalid value: "array": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x + y >= 0))"#
            ]
        );
        let many: Vec<Value> = (0..30).map(|_| costly.clone()).collect();
        assert_eq!(
            faults(many.into(), 300),
            [
                r#"list: Invalid value: "array": validation failed due to running out of cost budget, no further validation rules will be run"#
            ]
        );
    }

    #[test]
    fn a_rule_without_an_answer_says_which_it_is() {
        let rules = json!([{"rule": "self.min > 0", "message": "min must be more than nothing"}]);
        assert_eq!(
            faults_of(rules, json!({}), None),
            [
                r#"spec: Invalid value: "object": no such key: min evaluating rule: min must be more than nothing"#
            ]
        );
    }
}
