//! Where an ingress sends what it lets in: a service and its port, or another object of the namespace.

use super::faults::Faults;
use super::{fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

/// Every fault of a backend; an absent one is a fault too.
pub(super) fn validate(backend: &Value, path: &str, faults: &mut Faults) {
    let nothing = json!("");
    match (backend.get("service"), backend.get("resource")) {
        (Some(_), Some(_)) => faults.invalid(path, &nothing, "cannot set both resource and service backends"),
        (None, Some(resource)) => reference(resource, &format!("{path}.resource"), faults),
        (Some(service), None) => service_of(service, path, faults),
        (None, None) => faults.invalid(path, &nothing, "resource or service backend is required"),
    }
}

fn service_of(service: &Value, path: &str, faults: &mut Faults) {
    let field = format!("{path}.service.name");
    validation::required_name(&field, fields::text(service, "/name"), names::dns1123_label, faults);
    let name = fields::text(service, "/port/name");
    let number = fields::int(service, "/port/number").unwrap_or(0);
    match (name, number) {
        ("", 0) => faults.required(path, "port name or number is required"),
        ("", number) => validation::port_number(&format!("{path}.service.port.number"), number, faults),
        (name, 0) => validation::port_name(&format!("{path}.service.port.name"), name, faults),
        _ => faults.invalid(path, &json!(""), "cannot set both port name & port number"),
    }
}

/// An object by group, kind and name.
pub(super) fn reference(reference: &Value, path: &str, faults: &mut Faults) {
    if let Some(group) = reference.get("apiGroup").and_then(Value::as_str) {
        validation::named(&format!("{path}.apiGroup"), group, names::dns1123_subdomain, faults);
    }
    for field in ["kind", "name"] {
        let text = fields::text(reference, &format!("/{field}"));
        validation::required_name(&format!("{path}.{field}"), text, names::path_segment, faults);
    }
}
