//! Endpoint slices: the addresses behind a service, a hundred at a time.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
use serde_json::Value;

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
    for port in fields::each(slice, "ports") {
        fields::fill(port, "name", "");
        fields::fill(port, "protocol", "TCP");
    }
}

fn validate(slice: &Value, faults: &mut Faults) {
    match fields::text(slice, "/addressType") {
        "" => faults.required("addressType", ""),
        family if FAMILIES.contains(&family) => {}
        other => faults.not_supported("addressType", other, &FAMILIES),
    }
    for (index, endpoint) in fields::list(slice, "/endpoints").iter().enumerate() {
        if fields::list(endpoint, "/addresses").is_empty() {
            faults.required(format!("endpoints[{index}].addresses"), "must contain at least 1 address");
        }
    }
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
