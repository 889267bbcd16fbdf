//! Endpoints: the addresses behind a service in the shape that older clients read.

use super::cells::NONE;
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, fields};
use serde_json::Value;

/// As many addresses as a cell shows before it says how many more there are.
const SHOWN: usize = 3;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .columns(vec![name(), text("Endpoints", "Addresses and ports.", endpoints), age()])
        .rules(Rules { defaults, ..Rules::NONE })
        .done()
}

fn defaults(object: &mut Value) {
    for subset in fields::each(object, "subsets") {
        for port in fields::each(subset, "ports") {
            fields::fill_text(port, "protocol", "TCP");
        }
    }
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
