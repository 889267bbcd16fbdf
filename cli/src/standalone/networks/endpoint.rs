//! What `inspect` tells of a container's part in its network: Docker's fields, those that are known to be empty too, since
//! templates name them.

use super::Known;
use crate::settings::Settings;
use knarr_agent::engine::network::cidr::Cidr;
use knarr_images::Digest;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// One of `NetworkSettings.Networks`.
pub(crate) fn of(
    settings: &Settings,
    network: &str,
    container: &str,
    (first, second): (&str, &str),
) -> Value {
    let known = Known::all(settings).unwrap_or_default().into_iter().find(|known| known.name() == network);
    let range = known.as_ref().and_then(|known| range_of(settings, known));
    let address = first.parse::<Ipv4Addr>().ok();
    let connected = range.filter(|_| address.is_some());
    let id = known.map(|known| known.id(settings)).unwrap_or_default();
    json!({
        "IPAMConfig": Value::Null, "Links": Value::Null, "Aliases": Value::Null, "DriverOpts": Value::Null,
        "MacAddress": address.map(link_address).unwrap_or_default(),
        "NetworkID": id,
        "EndpointID": connected.map(|_| Digest::of(format!("{id} {container}").as_bytes()).hex().to_owned()).unwrap_or_default(),
        "Gateway": connected.map(|range| range.gateway().to_string()).unwrap_or_default(),
        "IPAddress": first,
        "IPPrefixLen": connected.map_or(0, Cidr::prefix),
        "IPv6Gateway": "",
        "GlobalIPv6Address": second,
        "GlobalIPv6PrefixLen": if second.is_empty() { 0 } else { 64 },
    })
}

/// What stands in `NetworkSettings` itself.
pub(crate) fn shared(part: &Value) -> Value {
    let mut shared = json!({"Bridge": "", "SandboxKey": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0});
    for name in [
        "EndpointID",
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "MacAddress",
        "IPv6Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
    ] {
        shared[name] = part[name].clone();
    }
    shared
}

fn range_of(settings: &Settings, network: &Known) -> Option<Cidr> {
    match network {
        Known::BuiltIn("bridge", _) => Cidr::parse(&settings.node.run_network.pod_cidr).ok(),
        Known::BuiltIn(..) => None,
        Known::Made(record) => Cidr::parse(&record.subnet).ok(),
    }
}

/// The engine makes it of the address.
fn link_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_by_their_address() {
        assert_eq!(link_address(Ipv4Addr::new(10, 41, 0, 7)), "0a:58:0a:29:00:07");
    }
}
