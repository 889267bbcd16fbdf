//! What holds for policies of admission and for their bindings, whether they refuse or change: what they match, their
//! parameters, and that every expression compiles.

use super::{faults::Faults, fields, validation};
use crate::expressions::Expression;
use crate::expressions::typing::{Kind, Scope, policies};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Operations in which there is something to change.
pub(super) const CHANGING: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MOST_CONDITIONS: usize = 64;

/// How an expression is compiled, what it can use, and what it must give.
#[derive(Clone, Copy)]
pub(super) struct Use<'a> {
    pub(super) compile: fn(&str) -> Result<Expression, String>,
    pub(super) scope: &'a Scope,
    /// Anything where it is empty.
    pub(super) gives: &'a str,
}

/// An expression that must be there, compile, use only what there is, and give what it must; what it gives.
pub(super) fn expression(source: &str, path: &str, missing: &str, how: Use<'_>, faults: &mut Faults) -> Kind {
    if source.trim().is_empty() {
        faults.required(path, missing);
        return Kind::Any;
    }
    let checked = (how.compile)(source).and_then(|expression| {
        expression.kind_in(how.scope).map_err(|faults| format!("compilation failed: {faults}"))
    });
    match checked {
        Err(why) => faults.invalid(path, &json!(source), &why),
        Ok(kind) if kind.is_simple() && !how.gives.is_empty() && kind.name() != how.gives => {
            faults.invalid(path, &json!(source), &format!("must evaluate to {}", how.gives));
        }
        Ok(kind) => return kind,
    }
    Kind::Any
}

/// What all policies have, and what their other expressions can use. `operations`: those that may be matched, where not
/// all may.
pub(super) fn policy(policy: &Value, operations: Option<&[&str]>, faults: &mut Faults) -> Scope {
    validation::one_of(policy, "spec.failurePolicy", &["Fail", "Ignore"], faults);
    if let Some(kind) = policy.pointer("/spec/paramKind") {
        for field in ["apiVersion", "kind"] {
            if fields::text(kind, &format!("/{field}")).is_empty() {
                faults.required(format!("spec.paramKind.{field}"), "");
            }
        }
    }
    match policy.pointer("/spec/matchConstraints") {
        None => faults.required("spec.matchConstraints", ""),
        Some(constraints) => {
            matching(constraints, "spec.matchConstraints", operations, faults);
            if fields::list(constraints, "/resourceRules").is_empty() {
                faults.required("spec.matchConstraints.resourceRules", "");
            }
        }
    }
    let params = policy.pointer("/spec/paramKind").filter(|kind| !kind.is_null()).map(|_| Kind::Any);
    let scope = |named: Option<&BTreeMap<String, Kind>>| policies::scope(Kind::Any, params.as_ref(), named);
    conditions(fields::list(policy, "/spec/matchConditions"), "spec.matchConditions", &scope(None), faults);
    let mut named = BTreeMap::new();
    let compile = if operations.is_some() { Expression::compile_patch } else { Expression::compile };
    for (index, variable) in fields::list(policy, "/spec/variables").iter().enumerate() {
        let path = format!("spec.variables[{index}]");
        let name = fields::text(variable, "/name");
        if name.trim().is_empty() {
            faults.required(format!("{path}.name"), "name is not specified");
        } else if !is_identifier(name) {
            faults.invalid(format!("{path}.name"), &json!(name), "name is not a valid CEL identifier");
        }
        let source = fields::text(variable, "/expression");
        let how = Use { compile, scope: &scope(Some(&named)), gives: "" };
        let path = format!("{path}.expression");
        let kind = expression(source, &path, "expression is not specified", how, faults);
        named.insert(name.to_owned(), kind);
    }
    scope(Some(&named))
}

fn is_identifier(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn conditions(conditions: &[Value], path: &str, scope: &Scope, faults: &mut Faults) {
    let how = Use { compile: Expression::compile, scope, gives: "bool" };
    if conditions.len() > MOST_CONDITIONS {
        faults.too_many(path, conditions.len(), MOST_CONDITIONS);
    }
    for (index, condition) in conditions.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let source = fields::text(condition, "/expression").trim();
        expression(source, &format!("{path}.expression"), "", how, faults);
        let name = fields::text(condition, "/name");
        validation::required_name(&format!("{path}.name"), name, names::qualified_name, faults);
        let earlier = conditions[..index].iter();
        if !name.is_empty() && earlier.into_iter().any(|other| other["name"] == name) {
            faults.duplicate(format!("{path}.name"), &json!(name));
        }
    }
}

/// What all bindings have.
pub(super) fn binding(binding: &Value, operations: Option<&[&str]>, faults: &mut Faults) {
    let name = fields::text(binding, "/spec/policyName");
    validation::required_name("spec.policyName", name, names::dns1123_subdomain, faults);
    if let Some(reference) = binding.pointer("/spec/paramRef") {
        parameters(reference, faults);
    }
    if let Some(constraints) = binding.pointer("/spec/matchResources") {
        matching(constraints, "spec.matchResources", operations, faults);
    }
}

fn parameters(reference: &Value, faults: &mut Faults) {
    let path = "spec.paramRef";
    let (name, selector) = (fields::text(reference, "/name"), reference.get("selector"));
    if !name.is_empty() && selector.is_some() {
        faults.forbidden(format!("{path}.name"), "name and selector are mutually exclusive");
    }
    if let Some(selector) = selector {
        validation::label_selector(selector, &format!("{path}.selector"), faults);
        if !name.is_empty() {
            faults.forbidden(format!("{path}.selector"), "name and selector are mutually exclusive");
        }
    }
    if name.is_empty() && selector.is_none() {
        faults.required(path, "one of name or selector must be specified");
    }
    match fields::text(reference, "/parameterNotFoundAction") {
        "" => faults.required(format!("{path}.parameterNotFoundAction"), ""),
        "Allow" | "Deny" => {}
        other => faults.not_supported(format!("{path}.parameterNotFoundAction"), other, &["Deny", "Allow"]),
    }
}

fn matching(constraints: &Value, path: &str, operations: Option<&[&str]>, faults: &mut Faults) {
    let policy = fields::text(constraints, "/matchPolicy");
    validation::optional_choice(&format!("{path}.matchPolicy"), policy, &["Equivalent", "Exact"], faults);
    for selector in ["namespaceSelector", "objectSelector"] {
        if let Some(given) = constraints.get(selector) {
            validation::label_selector(given, &format!("{path}.{selector}"), faults);
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (index, one) in fields::list(constraints, &format!("/{list}")).iter().enumerate() {
            rule(one, &format!("{path}.{list}[{index}]"), faults);
        }
    }
    let Some(operations) = operations else { return };
    for rule in fields::list(constraints, "/resourceRules") {
        let named = fields::list(rule, "/operations").iter().filter_map(Value::as_str);
        for other in named.filter(|named| !operations.contains(named)) {
            faults.not_supported(format!("{path}.resourceRules.operations"), other, operations);
        }
    }
}

pub(super) fn rule(rule: &Value, path: &str, faults: &mut Faults) {
    let lists = [
        ("operations", "operations"),
        ("apiGroups", "API groups"),
        ("apiVersions", "API versions"),
        ("resources", ""),
    ];
    for (field, what) in lists {
        let (values, path) = (fields::list(rule, &format!("/{field}")), format!("{path}.{field}"));
        if values.is_empty() {
            faults.required(&path, "");
        }
        if !what.is_empty() && values.len() > 1 && values.iter().any(|value| value == "*") {
            let detail = format!("if '*' is present, must not specify other {what}");
            faults.invalid(&path, &values.to_vec().into(), &detail);
        }
        for (index, value) in values.iter().enumerate() {
            let text = value.as_str().unwrap_or_default();
            match field {
                "operations" if !OPERATIONS.contains(&text) => {
                    faults.not_supported(format!("{path}[{index}]"), text, &OPERATIONS);
                }
                "apiVersions" | "resources" if text.is_empty() => {
                    faults.required(format!("{path}[{index}]"), "");
                }
                _ => {}
            }
        }
    }
    let scope = fields::text(rule, "/scope");
    validation::optional_choice(&format!("{path}.scope"), scope, &["*", "Cluster", "Namespaced"], faults);
}
