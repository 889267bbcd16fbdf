//! Addresses of services as objects of their own: which service has which (made by `controllers/ip_address.rs`).

use super::columns::{name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, addresses, cells, faults::Faults, fields, validation};
use knarr_api::names;
use serde_json::Value;

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
    addresses::canonical_ip("metadata.name", name, faults);
    let Some(parent) = address.pointer("/spec/parentRef").filter(|parent| !parent.is_null()) else {
        return faults.required("spec.parentRef", "");
    };
    let text = |field: &str| fields::text(parent, &format!("/{field}"));
    let field = |name: &str| format!("spec.parentRef.{name}");
    validation::optional_name(&field("group"), text("group"), names::dns1123_subdomain, faults);
    validation::required_name(&field("resource"), text("resource"), names::path_segment, faults);
    validation::required_name(&field("name"), text("name"), names::path_segment, faults);
    validation::optional_name(&field("namespace"), text("namespace"), names::path_segment, faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec.parentRef", faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_named_by_itself() {
        let told = |name: &str, parent: Value| {
            let mut faults = Faults::default();
            validate(&json!({"metadata": {"name": name}, "spec": {"parentRef": parent}}), &mut faults);
            let causes = faults.into_causes().into_iter();
            causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>().join(", ")
        };
        let web = json!({"resource": "services", "namespace": "d", "name": "web"});
        assert_eq!(told("10.96.0.1", web.clone()), "");
        let canonical = "metadata.name: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")";
        assert_eq!(told("FD00::1", web.clone()), canonical);
        let none = "metadata.name: Invalid value: \"web\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        assert_eq!(told("web", web), none);
        let empty = "spec.parentRef.resource: Required value, spec.parentRef.name: Required value";
        assert_eq!(told("10.96.0.1", json!({})), empty);
        assert_eq!(told("10.96.0.1", json!(null)), "spec.parentRef: Required value");
        let slash = "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'";
        assert_eq!(told("10.96.0.1", json!({"resource": "services", "name": "a/b"})), slash);
    }

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
