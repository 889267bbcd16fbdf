//! Endpoints: the addresses behind a service in the shape that older clients read.

use super::cells::NONE;
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::service_ports::PROTOCOLS;
use super::{Resource, addresses, faults::Faults, fields, validation};
use knarr_api::names;
use serde_json::Value;

/// As many addresses as a cell shows before it says how many more there are.
const SHOWN: usize = 3;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .columns(vec![name(), text("Endpoints", "Addresses and ports.", endpoints), age()])
        .rules(Rules { defaults, validate, ..Rules::NONE })
        .done()
}

fn defaults(object: &mut Value) {
    for subset in fields::each(object, "subsets") {
        for port in fields::each(subset, "ports") {
            fields::fill_text(port, "protocol", "TCP");
        }
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    for (index, subset) in fields::list(object, "/subsets").iter().enumerate() {
        subset_of(subset, &format!("subsets[{index}]"), faults);
    }
}

fn subset_of(subset: &Value, path: &str, faults: &mut Faults) {
    let (ready, waiting) = (fields::list(subset, "/addresses"), fields::list(subset, "/notReadyAddresses"));
    if ready.is_empty() && waiting.is_empty() {
        faults.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (field, list) in [("addresses", ready), ("notReadyAddresses", waiting)] {
        for (index, address) in list.iter().enumerate() {
            address_of(address, &format!("{path}.{field}[{index}]"), faults);
        }
    }
    let ports = fields::list(subset, "/ports");
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        match fields::text(port, "/name") {
            "" if ports.len() > 1 => faults.required(format!("{path}.name"), ""),
            "" => {}
            name => validation::dns_label(&format!("{path}.name"), name, faults),
        }
        validation::port_number(&format!("{path}.port"), fields::int(port, "/port").unwrap_or(0), faults);
        let protocol = fields::text(port, "/protocol");
        validation::optional_choice(&format!("{path}.protocol"), protocol, &PROTOCOLS, faults);
    }
}

fn address_of(address: &Value, path: &str, faults: &mut Faults) {
    let field = format!("{path}.ip");
    if let Some(ip) = addresses::ip(&field, fields::text(address, "/ip"), faults) {
        addresses::of_endpoint(&field, ip, faults);
    }
    let (host, node) = (fields::text(address, "/hostname"), fields::text(address, "/nodeName"));
    validation::optional_name(&format!("{path}.hostname"), host, names::dns1123_label, faults);
    validation::optional_name(&format!("{path}.nodeName"), node, names::dns1123_subdomain, faults);
}

fn endpoints(object: &Value) -> String {
    let mut shown = Vec::new();
    let mut total = 0;
    for subset in fields::list(object, "/subsets") {
        let ports = fields::list(subset, "/ports");
        for address in fields::list(subset, "/addresses") {
            let ip = fields::text(address, "/ip");
            let each = match ports {
                [] => vec![ip.to_owned()],
                ports => {
                    ports.iter().map(|port| host_port(ip, fields::int(port, "/port").unwrap_or(0))).collect()
                }
            };
            total += each.len();
            shown.extend(each.into_iter().take(SHOWN.saturating_sub(shown.len())));
        }
    }
    match (shown.len(), total) {
        (0, _) => NONE.to_owned(),
        (shown_count, total) if shown_count < total => {
            format!("{} + {} more...", shown.join(","), total - shown_count)
        }
        _ => shown.join(","),
    }
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}
