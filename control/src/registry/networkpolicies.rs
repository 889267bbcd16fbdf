//! Network policies: who may talk to which pods.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, network_peers, validation};
use serde_json::{Map, Value, json};

const DIRECTIONS: [&str; 2] = ["Ingress", "Egress"];

pub(super) fn row() -> Resource {
    Row::namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .columns(vec![
            name(),
            text("Pod-Selector", "Labels of the pods it protects.", |object| {
                cells::label_selector(object, "/spec/podSelector")
            }),
            age(),
        ])
        .rules(Rules { has_generation: true, defaults, validate, ..Rules::NONE })
        .done()
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill(spec, "podSelector", json!({}));
    if fields::list(spec, "/policyTypes").is_empty() {
        let kinds = if fields::list(spec, "/egress").is_empty() {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        fields::set(spec, "policyTypes", kinds);
    }
    for direction in ["ingress", "egress"] {
        for rule in fields::each(spec, direction) {
            for port in fields::each(rule, "ports") {
                fields::fill_text(port, "protocol", "TCP");
            }
        }
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    let empty = Value::Object(Map::new());
    let selector = object.pointer("/spec/podSelector").unwrap_or(&empty);
    validation::label_selector(selector, "spec.podSelector", faults);
    network_peers::validate_rules(object, "ingress", "from", faults);
    network_peers::validate_rules(object, "egress", "to", faults);
    let kinds = fields::list(object, "/spec/policyTypes");
    if kinds.len() > DIRECTIONS.len() {
        faults.invalid("spec.policyTypes", &json!(kinds), "may not specify more than two policyTypes");
        return;
    }
    for (index, kind) in kinds.iter().filter_map(Value::as_str).enumerate() {
        if !DIRECTIONS.contains(&kind) {
            faults.not_supported(format!("spec.policyTypes[{index}]"), kind, &DIRECTIONS);
        }
    }
}
