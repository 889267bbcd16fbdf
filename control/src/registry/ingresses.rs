//! Ingresses: HTTP routes from outside to services.

use super::cells::or_none;
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
use serde_json::Value;

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn row() -> Resource {
    Row::namespaced("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .status()
        .columns(vec![
            name(),
            text("Class", "Who serves it.", |object| {
                let class = fields::text(object, "/spec/ingressClassName");
                let annotated = object
                    .pointer("/metadata/annotations/kubernetes.io~1ingress.class")
                    .and_then(Value::as_str);
                or_none(if class.is_empty() { annotated.unwrap_or_default() } else { class })
            }),
            text("Hosts", "Names it answers to.", hosts),
            text("Address", "Where it is reached.", |object| {
                let addresses = fields::list(object, "/status/loadBalancer/ingress").iter().map(|ingress| {
                    let ip = fields::text(ingress, "/ip");
                    if ip.is_empty() { fields::text(ingress, "/hostname") } else { ip }
                });
                addresses.collect::<Vec<_>>().join(",")
            }),
            text("Ports", "Ports it is reached at.", |object| {
                if fields::list(object, "/spec/tls").is_empty() { "80" } else { "80, 443" }.to_owned()
            }),
            age(),
        ])
        .rules(Rules { has_generation: true, on_create, validate, ..Rules::NONE })
        .done()
}

fn hosts(object: &Value) -> String {
    const SHOWN: usize = 3;
    let all = fields::list(object, "/spec/rules").iter().map(|rule| fields::text(rule, "/host"));
    let named: Vec<&str> = all.filter(|host| !host.is_empty()).collect();
    match named.len() {
        0 => "*".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", named[..SHOWN].join(","), count - SHOWN),
        _ => named.join(","),
    }
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", serde_json::json!({"loadBalancer": {}}));
}

fn validate(object: &Value, faults: &mut Faults) {
    let rules = fields::list(object, "/spec/rules");
    if rules.is_empty() && object.pointer("/spec/defaultBackend").is_none() {
        faults.invalid(
            "spec",
            object.get("spec").unwrap_or(&Value::Null),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    for (at, rule) in rules.iter().enumerate() {
        let base = format!("spec.rules[{at}].http.paths");
        if rule.get("http").is_some() && fields::list(rule, "/http/paths").is_empty() {
            faults.required(base.as_str(), "");
        }
        for (index, path) in fields::list(rule, "/http/paths").iter().enumerate() {
            path_of(path, &format!("{base}[{index}]"), faults);
        }
    }
}

fn path_of(path: &Value, field: &str, faults: &mut Faults) {
    let (kind, value) = (fields::text(path, "/pathType"), fields::text(path, "/path"));
    match kind {
        "" => faults.required(format!("{field}.pathType"), "pathType must be specified"),
        kind if !PATH_TYPES.contains(&kind) => {
            faults.not_supported(format!("{field}.pathType"), kind, &PATH_TYPES)
        }
        "ImplementationSpecific" => {}
        _ if !value.starts_with('/') => {
            faults.invalid(format!("{field}.path"), &Value::from(value), "must be an absolute path");
        }
        _ => {}
    }
    let service = path.pointer("/backend/service");
    if service.is_none() && path.pointer("/backend/resource").is_none() {
        faults.required(format!("{field}.backend"), "resource or service backend is required");
    }
    if let Some(service) = service
        && fields::text(service, "/name").is_empty()
    {
        faults.required(format!("{field}.backend.service.name"), "");
    }
}
