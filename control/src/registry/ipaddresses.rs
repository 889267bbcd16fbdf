//! Addresses of services as objects of their own: which service has which (made by `controllers/ip_address.rs`).

use super::columns::{name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields};
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn row() -> Resource {
    Row::cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
        .short(&["ip"])
        .columns(vec![name(), text("ParentRef", "Who has the address.", parent)])
        .rules(Rules { name: knarr_api::names::path_segment, validate, validate_update, ..Rules::NONE })
        .done()
}

/// `services/default/kubernetes`, `gateways.example.com/a/b`
fn parent(address: &Value) -> String {
    let part = |field: &str| fields::text(address, &format!("/spec/parentRef/{field}")).to_owned();
    let resource = match (part("resource"), part("group")) {
        (resource, _) if resource.is_empty() => return cells::NONE.to_owned(),
        (resource, group) if group.is_empty() => resource,
        (resource, group) => format!("{resource}.{group}"),
    };
    let place = [part("namespace"), part("name")].into_iter().filter(|part| !part.is_empty());
    [resource.to_lowercase()].into_iter().chain(place).collect::<Vec<_>>().join("/")
}

fn validate(address: &Value, faults: &mut Faults) {
    let name = fields::text(address, "/metadata/name");
    // The canonical form: what the address itself prints.
    if name.parse::<IpAddr>().map(|parsed| parsed.to_string()).as_deref() != Ok(name) {
        faults.invalid("metadata.name", &json!(name), "must be a valid IP address in canonical form");
    }
    if address.pointer("/spec/parentRef").is_none() {
        faults.required("spec.parentRef", "");
        return;
    }
    for field in ["resource", "name"] {
        if fields::text(address, &format!("/spec/parentRef/{field}")).is_empty() {
            faults.required(format!("spec.parentRef.{field}"), "");
        }
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    super::validation::unchanged(new, old, "spec.parentRef", faults);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_shown_with_its_place() {
        let address = |parent: Value| json!({"spec": {"parentRef": parent}});
        let service = address(json!({"resource": "services", "namespace": "default", "name": "web"}));
        assert_eq!(parent(&service), "services/default/web");
        let other = address(json!({"group": "example.com", "resource": "gateways", "name": "g"}));
        assert_eq!(parent(&other), "gateways.example.com/g");
        assert_eq!(parent(&json!({})), "<none>");
    }
}
