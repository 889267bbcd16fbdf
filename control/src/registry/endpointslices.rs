//! Endpoint slices: the addresses behind a service, a hundred at a time.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::service_ports::PROTOCOLS;
use super::{Resource, addresses, faults::Faults, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// As many items as a cell shows before it says how many more there are.
const SHOWN: usize = 3;
const FAMILIES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

pub(super) fn row() -> Resource {
    Row::namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .columns(vec![
            name(),
            text("AddressType", "Family of the addresses.", |slice| {
                fields::text(slice, "/addressType").to_owned()
            }),
            text("Ports", "Ports of every address.", ports),
            text("Endpoints", "Addresses.", endpoints),
            age(),
        ])
        .rules(Rules { has_generation: true, defaults, validate, validate_update, ..Rules::NONE })
        .done()
}

fn defaults(slice: &mut Value) {
    for endpoint in fields::each(slice, "endpoints") {
        fields::fill(endpoint, "conditions", json!({}));
    }
    for port in fields::each(slice, "ports") {
        fields::fill(port, "name", "");
        fields::fill(port, "protocol", "TCP");
    }
}

fn validate(slice: &Value, faults: &mut Faults) {
    let family = fields::text(slice, "/addressType");
    match family {
        "" => faults.required("addressType", ""),
        family if FAMILIES.contains(&family) => {}
        other => faults.not_supported("addressType", other, &FAMILIES),
    }
    for (index, endpoint) in fields::list(slice, "/endpoints").iter().enumerate() {
        endpoint_of(endpoint, family, &format!("endpoints[{index}]"), faults);
    }
    let mut seen = BTreeSet::new();
    for (index, port) in fields::list(slice, "/ports").iter().enumerate() {
        let (path, port_name) = (format!("ports[{index}]"), fields::text(port, "/name"));
        validation::optional_name(&format!("{path}.name"), port_name, names::dns1123_label, faults);
        if !seen.insert(port_name) {
            faults.duplicate(format!("{path}.name"), &json!(port_name));
        }
        let protocol = fields::text(port, "/protocol");
        validation::optional_choice(&format!("{path}.protocol"), protocol, &PROTOCOLS, faults);
        let application = fields::text(port, "/appProtocol");
        let field = format!("{path}.appProtocol");
        validation::optional_name(&field, application, names::qualified_name, faults);
    }
}

fn endpoint_of(endpoint: &Value, family: &str, path: &str, faults: &mut Faults) {
    let listed = fields::list(endpoint, "/addresses");
    if listed.is_empty() {
        faults.required(format!("{path}.addresses"), "must contain at least 1 address");
    }
    for (index, text) in listed.iter().filter_map(Value::as_str).enumerate() {
        address(text, family, path, index, faults);
    }
    for (field, rule) in [
        ("nodeName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("hostname", names::dns1123_label),
    ] {
        let text = fields::text(endpoint, &format!("/{field}"));
        validation::optional_name(&format!("{path}.{field}"), text, rule, faults);
    }
    let mut zones = BTreeSet::new();
    for (index, zone) in fields::list(endpoint, "/hints/forZones").iter().enumerate() {
        let zone = fields::text(zone, "/name");
        if !zones.insert(zone) {
            faults.duplicate(format!("{path}.hints.forZones[{index}].name"), &json!(zone));
        }
    }
}

fn address(text: &str, family: &str, path: &str, index: usize, faults: &mut Faults) {
    let field = format!("{path}.addresses[{index}]");
    if family == "FQDN" {
        validation::named(&field, text, names::dns1123_subdomain, faults);
        return;
    }
    let Some(address) = addresses::ip(&field, text, faults) else { return };
    let fits = match family {
        "IPv4" => address.is_ipv4(),
        "IPv6" => address.is_ipv6(),
        _ => true,
    };
    if !fits {
        faults.invalid(format!("{path}.addresses"), &json!(text), &format!("must be an {family} address"));
    }
    addresses::of_endpoint(&field, address, faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    if new.get("addressType") != old.get("addressType") {
        faults.immutable("addressType", new.get("addressType").unwrap_or(&Value::Null));
    }
}

fn ports(slice: &Value) -> String {
    let ports = fields::list(slice, "/ports").iter().map(|port| match fields::int(port, "/port") {
        Some(number) => number.to_string(),
        None => "*".to_owned(),
    });
    limited(&ports.collect::<Vec<_>>())
}

fn endpoints(slice: &Value) -> String {
    let addresses =
        fields::list(slice, "/endpoints").iter().flat_map(|endpoint| fields::list(endpoint, "/addresses"));
    limited(&addresses.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
}

fn limited(items: &[String]) -> String {
    match items.len() {
        0 => "<unset>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", items[..SHOWN].join(","), count - SHOWN),
        _ => items.join(","),
    }
}
