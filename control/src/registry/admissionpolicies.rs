//! Policies that refuse (ValidatingAdmissionPolicy) or change (MutatingAdmissionPolicy) what is written, in expressions,
//! and the bindings that put them in force.
//!
//! Versions of the policies that change differ in their name only. The first is stored: every version of Kubernetes that
//! has them knows it.

use super::columns::{age, integer, name, text};
use super::policy_rules::{self as rules, Use};
use super::row::Row;
use super::rules::Rules;
use super::{Column, Resource, StoredAs, faults::Faults, fields, validation};
use crate::expressions::Expression;
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "admissionregistration.k8s.io";
const STORED: &str = "v1alpha1";
const OTHERS: [&str; 2] = ["v1beta1", "v1"];

/// The rows of policies and bindings.
pub(super) fn rows() -> Vec<Resource> {
    let row = |version, kind, plural| Row::cluster(GROUP, version, kind, plural).category("api-extensions");
    let mut rows = vec![
        row("v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
            .status()
            .columns(policy_columns("Validations", |policy| count(policy, "/spec/validations")))
            .rules(Rules { has_generation: true, defaults, validate: validating, ..Rules::NONE })
            .done(),
        row("v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .columns(binding_columns())
            .rules(Rules { has_generation: true, defaults, validate: validating_binding, ..Rules::NONE })
            .done(),
    ];
    for version in [STORED].into_iter().chain(OTHERS) {
        let kept =
            |row: Row, plural| if version == STORED { row } else { row.stored_as(renamed(version, plural)) };
        let (policies, bindings) = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings");
        let policy = row(version, "MutatingAdmissionPolicy", policies)
            .columns(policy_columns("Mutations", |policy| count(policy, "/spec/mutations")))
            .rules(Rules { has_generation: true, defaults, validate: mutating, ..Rules::NONE });
        let binding = row(version, "MutatingAdmissionPolicyBinding", bindings)
            .columns(binding_columns())
            .rules(Rules { has_generation: true, defaults, validate: mutating_binding, ..Rules::NONE });
        rows.extend([kept(policy, policies).done(), kept(binding, bindings).done()]);
    }
    rows
}

/// A version that differs from the stored one in its name only.
fn renamed(version: &'static str, plural: &'static str) -> StoredAs {
    let to = |version: &'static str| {
        move |mut object: Value| {
            fields::set(&mut object, "apiVersion", format!("{GROUP}/{version}").into());
            object
        }
    };
    StoredAs {
        row: (GROUP.into(), STORED.into(), plural.into()),
        to_stored: Arc::new(to(STORED)),
        from_stored: Arc::new(to(version)),
    }
}

fn count(policy: &Value, pointer: &str) -> i64 {
    fields::list(policy, pointer).len() as i64
}

fn policy_columns(what: &'static str, rules: fn(&Value) -> i64) -> Vec<Column> {
    vec![
        name(),
        integer(what, "Number of rules.", rules),
        text("ParamKind", "Kind of its parameters.", |object| match object.pointer("/spec/paramKind") {
            Some(kind) => format!("{}/{}", fields::text(kind, "/apiVersion"), fields::text(kind, "/kind")),
            None => "<unset>".to_owned(),
        }),
        age(),
    ]
}

fn binding_columns() -> Vec<Column> {
    vec![
        name(),
        text("PolicyName", "The policy.", |object| fields::text(object, "/spec/policyName").to_owned()),
        text("ParamRef", "Its parameters.", |object| match object.pointer("/spec/paramRef") {
            Some(reference) => parameters(reference),
            None => "<unset>".to_owned(),
        }),
        age(),
    ]
}

/// One object, in whatever namespace where none is named; or those that a selector selects.
fn parameters(reference: &Value) -> String {
    let part = |pointer| fields::text(reference, pointer);
    match (part("/namespace"), part("/name")) {
        (_, "") => reference.get("selector").map_or_else(|| "<unset>".to_owned(), Value::to_string),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// Of policies and of their bindings.
fn defaults(object: &mut Value) {
    let kind = fields::text(object, "/kind").to_owned();
    if !kind.ends_with("Binding")
        && let Some(spec) = fields::child(object, "spec")
    {
        fields::fill_text(spec, "failurePolicy", "Fail");
    }
    for field in ["matchConstraints", "matchResources"] {
        let constraints = object.pointer_mut(&format!("/spec/{field}"));
        let Some(constraints) = constraints.filter(|constraints| constraints.is_object()) else { continue };
        fields::fill_text(constraints, "matchPolicy", "Equivalent");
        fields::fill(constraints, "namespaceSelector", json!({}));
        fields::fill(constraints, "objectSelector", json!({}));
        for list in ["resourceRules", "excludeResourceRules"] {
            for rule in fields::each(constraints, list) {
                fields::fill_text(rule, "scope", "*");
            }
        }
    }
    // Only the first version of the mutating ones says what happens without parameters.
    if kind == "MutatingAdmissionPolicyBinding"
        && fields::text(object, "/apiVersion").ends_with("/v1alpha1")
        && let Some(reference) =
            object.pointer_mut("/spec/paramRef").filter(|reference| reference.is_object())
    {
        fields::fill_text(reference, "parameterNotFoundAction", "Deny");
    }
}

fn validating(policy: &Value, faults: &mut Faults) {
    let scope = rules::policy(policy, None, faults);
    let gives = |gives| Use { compile: Expression::compile, scope: &scope, gives };
    let (validations, annotations) =
        (fields::list(policy, "/spec/validations"), fields::list(policy, "/spec/auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        faults.required("spec.validations", detail);
        faults.required("spec.auditAnnotations", detail);
    }
    for (index, validation) in validations.iter().enumerate() {
        let path = format!("spec.validations[{index}]");
        one_validation(validation, &path, (gives("bool"), gives("string")), faults);
    }
    for (index, annotation) in annotations.iter().enumerate() {
        let path = format!("spec.auditAnnotations[{index}].valueExpression");
        let source = fields::text(annotation, "/valueExpression");
        rules::expression(source, &path, "valueExpression is not specified", gives(""), faults);
    }
}

fn one_validation(validation: &Value, path: &str, (holds, says): (Use<'_>, Use<'_>), faults: &mut Faults) {
    let source = fields::text(validation, "/expression");
    let at = format!("{path}.expression");
    rules::expression(source, &at, "expression is not specified", holds, faults);
    let computed = fields::text(validation, "/messageExpression");
    let at = format!("{path}.messageExpression");
    if !computed.is_empty() && computed.trim().is_empty() {
        faults.invalid(at, &json!(computed), "must be non-empty if specified");
    } else if !computed.is_empty() {
        rules::expression(computed, &at, "", says, faults);
    }
    let message = fields::text(validation, "/message");
    let at = format!("{path}.message");
    if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(at, &json!(message), "message must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        faults.invalid(at, &json!(message), "message must not contain line breaks");
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    validation::optional_choice(
        &format!("{path}.reason"),
        fields::text(validation, "/reason"),
        &reasons,
        faults,
    );
}

fn mutating(policy: &Value, faults: &mut Faults) {
    let scope = rules::policy(policy, Some(&rules::CHANGING), faults);
    let how = Use { compile: Expression::compile_patch, scope: &scope, gives: "" };
    let mutations = fields::list(policy, "/spec/mutations");
    if mutations.is_empty() {
        faults.required("spec.mutations", "mutations must contain at least one item");
    }
    for (index, mutation) in mutations.iter().enumerate() {
        one_mutation(mutation, &format!("spec.mutations[{index}]"), how, faults);
    }
    validation::one_of(policy, "spec.reinvocationPolicy", &["Never", "IfNeeded"], faults);
}

/// The patch that the type names must be there, and the other one not.
fn one_mutation(mutation: &Value, path: &str, how: Use<'_>, faults: &mut Faults) {
    let kind = fields::text(mutation, "/patchType");
    let (own, other) = match kind {
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "" => return faults.required(format!("{path}.patchType"), ""),
        unknown => {
            let known = ["ApplyConfiguration", "JSONPatch"];
            return faults.not_supported(format!("{path}.patchType"), unknown, &known);
        }
    };
    match mutation.get(own) {
        None => {
            faults.required(format!("{path}.{own}"), &format!("must be specified when patchType is {kind}"))
        }
        Some(patch) => {
            let source = fields::text(patch, "/expression").trim();
            let at = format!("{path}.{own}.expression");
            rules::expression(source, &at, "", how, faults);
        }
    }
    if mutation.get(other).is_some() {
        let detail = format!("must not be specified when patchType is {kind}");
        faults.invalid(format!("{path}.{other}"), &format!("{{{other}}}").into(), &detail);
    }
}

fn validating_binding(binding: &Value, faults: &mut Faults) {
    rules::binding(binding, None, faults);
    let actions = fields::list(binding, "/spec/validationActions");
    let path = "spec.validationActions";
    for (index, action) in actions.iter().enumerate() {
        let known = ["Audit", "Deny", "Warn"];
        let text = action.as_str().unwrap_or_default();
        if !known.contains(&text) {
            faults.not_supported(format!("{path}[{index}]"), text, &known);
        }
        if actions[..index].contains(action) {
            faults.duplicate(format!("{path}[{index}]"), action);
        }
    }
    let does = |action: &str| actions.iter().any(|own| own == action);
    if does("Deny") && does("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        faults.invalid(path, &actions.to_vec().into(), detail);
    }
    if actions.is_empty() {
        faults.required(path, "at least one validation action is required");
    }
}

fn mutating_binding(binding: &Value, faults: &mut Faults) {
    rules::binding(binding, Some(&rules::CHANGING), faults);
}
