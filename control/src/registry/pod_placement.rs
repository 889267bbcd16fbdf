//! Where a pod may run: tolerations, affinities, spreading, gates.

use super::faults::Faults;
use super::{fields, node_affinity, validation};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const NEEDS_SELECTOR: &str = "must not be specified when labelSelector is not set";

/// Every fault of the fields of a pod specification that choose nodes.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) {
    if let Some(affinity) = spec.get("affinity") {
        let path = format!("{path}.affinity");
        to_nodes(affinity, &format!("{path}.nodeAffinity"), faults);
        for kind in ["podAffinity", "podAntiAffinity"] {
            if let Some(rules) = affinity.get(kind) {
                to_pods(rules, &format!("{path}.{kind}"), faults);
            }
        }
    }
    for (index, gate) in fields::list(spec, "/readinessGates").iter().enumerate() {
        let field = format!("{path}.readinessGates[{index}].conditionType");
        validation::named(&field, fields::text(gate, "/conditionType"), names::qualified_name, faults);
    }
    let mut gates = BTreeSet::new();
    for (index, gate) in fields::list(spec, "/schedulingGates").iter().enumerate() {
        let (name, field) = (fields::text(gate, "/name"), format!("{path}.schedulingGates[{index}]"));
        validation::named(&field, name, names::qualified_name, faults);
        if !gates.insert(name) {
            faults.duplicate(field, &json!(name));
        }
    }
    tolerations(spec, path, faults);
    let constraints = fields::list(spec, "/topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}]");
        spread(constraint, &constraints[index + 1..], &path, faults);
    }
}

/// Every fault of the tolerations inside `spec`.
pub(super) fn tolerations(spec: &Value, path: &str, faults: &mut Faults) {
    for (index, toleration) in fields::list(spec, "/tolerations").iter().enumerate() {
        tolerate(toleration, &format!("{path}.tolerations[{index}]"), faults);
    }
}

fn tolerate(toleration: &Value, path: &str, faults: &mut Faults) {
    let (key, value) = (fields::text(toleration, "/key"), fields::text(toleration, "/value"));
    let operator = fields::text(toleration, "/operator");
    if !key.is_empty() {
        validation::label_key(&format!("{path}.key"), key, faults);
    } else if operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        faults.invalid(format!("{path}.operator"), &json!(operator), detail);
    }
    match operator {
        "" | "Equal" => validation::named(&format!("{path}.operator"), value, names::label_value, faults),
        "Exists" if !value.is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            faults.invalid(format!("{path}.operator"), &json!(value), detail);
        }
        "Exists" => {}
        other => faults.not_supported(format!("{path}.operator"), other, &["Equal", "Exists"]),
    }
    let effect = fields::text(toleration, "/effect");
    validation::optional_choice(&format!("{path}.effect"), effect, &EFFECTS, faults);
    if fields::int(toleration, "/tolerationSeconds").is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        faults.invalid(format!("{path}.effect"), &json!(effect), detail);
    }
}

fn to_nodes(affinity: &Value, path: &str, faults: &mut Faults) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(selector) = affinity.pointer(&format!("/nodeAffinity/{required}")) {
        node_affinity::selector(selector, &format!("{path}.{required}"), faults);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let terms = fields::list(affinity, &format!("/nodeAffinity/{preferred}"));
    for (index, term) in terms.iter().enumerate() {
        let path = format!("{path}.{preferred}[{index}]");
        weight(term, &path, faults);
        let preference = term.get("preference").unwrap_or(&Value::Null);
        node_affinity::term(preference, &format!("{path}.preference"), faults);
    }
}

fn weight(term: &Value, path: &str, faults: &mut Faults) {
    let weight = fields::int(term, "/weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        faults.invalid(format!("{path}.weight"), &json!(weight), "must be in the range 1-100");
    }
}

fn to_pods(rules: &Value, path: &str, faults: &mut Faults) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in fields::list(rules, &format!("/{required}")).iter().enumerate() {
        pod_term(term, &format!("{path}.{required}[{index}]"), faults);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, weighted) in fields::list(rules, &format!("/{preferred}")).iter().enumerate() {
        let path = format!("{path}.{preferred}[{index}]");
        weight(weighted, &path, faults);
        let term = weighted.get("podAffinityTerm").unwrap_or(&Value::Null);
        pod_term(term, &format!("{path}.podAffinityTerm"), faults);
    }
}

fn pod_term(term: &Value, path: &str, faults: &mut Faults) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(field) {
            validation::label_selector(selector, &format!("{path}.{field}"), faults);
        }
    }
    for namespace in fields::list(term, "/namespaces").iter().filter_map(Value::as_str) {
        validation::dns_label(&format!("{path}.namespace"), namespace, faults);
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if term.get("labelSelector").is_none() && !fields::list(term, &format!("/{field}")).is_empty() {
            faults.forbidden(format!("{path}.{field}"), NEEDS_SELECTOR);
        }
    }
    let (key, field) = (fields::text(term, "/topologyKey"), format!("{path}.topologyKey"));
    if key.is_empty() {
        faults.required(field.as_str(), "can not be empty");
    }
    validation::named(&field, key, names::qualified_name, faults);
}

fn spread(constraint: &Value, later: &[Value], path: &str, faults: &mut Faults) {
    let (key, else_do) =
        (fields::text(constraint, "/topologyKey"), fields::text(constraint, "/whenUnsatisfiable"));
    let skew = fields::int(constraint, "/maxSkew").unwrap_or(0);
    if skew <= 0 {
        faults.invalid(format!("{path}.maxSkew"), &json!(skew), "must be greater than zero");
    }
    if key.is_empty() {
        faults.required(format!("{path}.topologyKey"), "can not be empty");
    }
    if !matches!(else_do, "DoNotSchedule" | "ScheduleAnyway") {
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        faults.not_supported(format!("{path}.whenUnsatisfiable"), else_do, &known);
    }
    let same = |other: &Value| {
        fields::text(other, "/topologyKey") == key && fields::text(other, "/whenUnsatisfiable") == else_do
    };
    if later.iter().any(same) {
        let field = format!("{path}.{{topologyKey, whenUnsatisfiable}}");
        faults.duplicate(field, &json!(format!("{{{key}, {else_do}}}")));
    }
    if let Some(domains) = fields::int(constraint, "/minDomains") {
        let field = format!("{path}.minDomains");
        if domains <= 0 {
            faults.invalid(field.as_str(), &json!(domains), "must be greater than zero");
        }
        if else_do != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {else_do}");
            faults.invalid(field, &json!(domains), &detail);
        }
    }
    for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        let policy = fields::text(constraint, &format!("/{field}"));
        validation::optional_choice(&format!("{path}.{field}"), policy, &["Honor", "Ignore"], faults);
    }
    match constraint.get("labelSelector") {
        Some(selector) => validation::label_selector(selector, &format!("{path}.labelSelector"), faults),
        None if !fields::list(constraint, "/matchLabelKeys").is_empty() => {
            faults.forbidden(format!("{path}.matchLabelKeys"), NEEDS_SELECTOR);
        }
        None => {}
    }
}
