//! Ingresses: HTTP routes from outside to services.

use super::cells::or_none;
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, ingress_backends, status_rules, validation, warnings};
use knarr_api::names;
use serde_json::{Value, json};

/// Where the class stood in former times.
const OLDER_CLASS: &str = "/metadata/annotations/kubernetes.io~1ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn row() -> Resource {
    Row::namespaced("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .status()
        .columns(vec![
            name(),
            text("Class", "Who serves it.", |object| {
                let class = fields::text(object, "/spec/ingressClassName");
                let annotated = object.pointer(OLDER_CLASS).and_then(Value::as_str);
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
        .rules(Rules {
            has_generation: true,
            on_create,
            validate,
            validate_create,
            validate_status_update: status_rules::of_ingress,
            warnings: warn,
            ..Rules::NONE
        })
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
    let default = object.pointer("/spec/defaultBackend");
    match default {
        Some(backend) => ingress_backends::validate(backend, "spec.defaultBackend", faults),
        None if rules.is_empty() => {
            faults.invalid("spec", &json!(rules), "either `defaultBackend` or `rules` must be specified");
        }
        None => {}
    }
    for (at, rule) in rules.iter().enumerate() {
        rule_of(rule, &format!("spec.rules[{at}]"), faults);
    }
    for (at, tls) in fields::list(object, "/spec/tls").iter().enumerate() {
        secured(tls, &format!("spec.tls[{at}]"), faults);
    }
    if let Some(class) = object.pointer("/spec/ingressClassName").and_then(Value::as_str) {
        validation::named("spec.ingressClassName", class, names::dns1123_subdomain, faults);
    }
}

/// The older way to name a class must not say another one.
fn validate_create(object: &Value, faults: &mut Faults) {
    let class = object.pointer("/spec/ingressClassName").and_then(Value::as_str);
    let older = object.pointer(OLDER_CLASS).and_then(Value::as_str);
    if let (Some(class), Some(older)) = (class, older)
        && class != older
    {
        let detail = "must match `ingressClassName` when both are specified";
        faults.invalid("annotations.kubernetes.io/ingress.class", &json!(older), detail);
    }
}

fn secured(tls: &Value, path: &str, faults: &mut Faults) {
    for (at, host) in fields::list(tls, "/hosts").iter().enumerate() {
        host_name(host.as_str().unwrap_or_default(), &format!("{path}.hosts[{at}]"), faults);
    }
    let secret = fields::text(tls, "/secretName");
    validation::optional_name(&format!("{path}.secretName"), secret, names::dns1123_subdomain, faults);
}

fn host_name(host: &str, field: &str, faults: &mut Faults) {
    let rule = if host.contains('*') { names::wildcard_subdomain } else { names::dns1123_subdomain };
    validation::named(field, host, rule, faults);
}

fn rule_of(rule: &Value, path: &str, faults: &mut Faults) {
    let (host, field) = (fields::text(rule, "/host"), format!("{path}.host"));
    if !host.is_empty() {
        if host.parse::<std::net::IpAddr>().is_ok() {
            faults.invalid(field.as_str(), &json!(host), "must be a DNS name, not an IP address");
        }
        host_name(host, &field, faults);
    }
    let base = format!("{path}.http.paths");
    if rule.get("http").is_some() && fields::list(rule, "/http/paths").is_empty() {
        faults.required(base.as_str(), "");
    }
    for (index, path) in fields::list(rule, "/http/paths").iter().enumerate() {
        path_of(path, &format!("{base}[{index}]"), faults);
    }
}

fn path_of(path: &Value, field: &str, faults: &mut Faults) {
    let (kind, value) = (fields::text(path, "/pathType"), fields::text(path, "/path"));
    match kind {
        "" => {
            faults.required(format!("{field}.pathType"), "pathType must be specified");
            return;
        }
        "Exact" | "Prefix" => plain_path(value, &format!("{field}.path"), faults),
        "ImplementationSpecific" if value.is_empty() || value.starts_with('/') => {}
        "ImplementationSpecific" => {
            faults.invalid(format!("{field}.path"), &json!(value), "must be an absolute path");
        }
        kind => faults.not_supported(format!("{field}.pathType"), kind, &PATH_TYPES),
    }
    let backend = path.get("backend").unwrap_or(&Value::Null);
    ingress_backends::validate(backend, &format!("{field}.backend"), faults);
}

/// A path that every proxy understands alike.
fn plain_path(value: &str, field: &str, faults: &mut Faults) {
    if !value.starts_with('/') {
        faults.invalid(field, &json!(value), "must be an absolute path");
    }
    for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| value.contains(part)) {
        faults.invalid(field, &json!(value), &format!("must not contain '{part}'"));
    }
    for end in ["/..", "/."].into_iter().filter(|end| value.ends_with(end)) {
        faults.invalid(field, &json!(value), &format!("cannot end with '{end}'"));
    }
}

fn warn(object: &Value) -> Vec<String> {
    let class = "kubernetes.io/ingress.class";
    let old = warnings::of_annotation(object, class, "");
    let words = format!("annotation {class:?} is deprecated, please use 'spec.ingressClassName' instead");
    let said = fields::text(object, "/spec/ingressClassName").is_empty();
    old.filter(|_| said).map(|_| words).into_iter().collect()
}
