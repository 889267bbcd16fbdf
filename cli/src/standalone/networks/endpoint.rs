//! What `inspect` tells of a container's part in its network: Docker's fields, those that are known to be empty too, since
//! templates name them.

use super::Known;
use crate::settings::Settings;
use knarr_agent::engine::network::hardware_address;
use knarr_agent::engine::network::pod_range::PodRange;
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
    let address = first.parse::<Ipv4Addr>().ok();
    let range = known.as_ref().and_then(|known| range_of(settings, known)).filter(|_| address.is_some());
    let id = known.map(|known| known.id(settings)).unwrap_or_default();
    let gateway = range.map(PodRange::gateway);
    let second_gateway = range.and_then(PodRange::second_gateway).filter(|_| !second.is_empty());
    json!({
        "IPAMConfig": Value::Null, "Links": Value::Null, "Aliases": Value::Null, "DriverOpts": Value::Null,
        "MacAddress": address.map(link_address).unwrap_or_default(),
        "NetworkID": id,
        "EndpointID": range.map(|_| Digest::of(format!("{id} {container}").as_bytes()).hex().to_owned()).unwrap_or_default(),
        "Gateway": gateway.map(|(gateway, _)| gateway.to_string()).unwrap_or_default(),
        "IPAddress": first,
        "IPPrefixLen": gateway.map_or(0, |(_, prefix)| prefix),
        "IPv6Gateway": second_gateway.map(|(gateway, _)| gateway.to_string()).unwrap_or_default(),
        "GlobalIPv6Address": second,
        "GlobalIPv6PrefixLen": second_gateway.map_or(0, |(_, prefix)| prefix),
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

fn range_of(settings: &Settings, network: &Known) -> Option<PodRange> {
    let (first, second) = match network {
        Known::BuiltIn("bridge", _) => {
            (&settings.node.run_network.pod_cidr, &settings.node.run_network.pod_cidr_v6)
        }
        Known::BuiltIn(..) => return None,
        Known::Made(record) => (&record.subnet, &record.second_subnet),
    };
    let both = second.iter().fold(first.clone(), |first, second| format!("{first},{second}"));
    PodRange::parse(&both).ok()
}

fn link_address(address: Ipv4Addr) -> String {
    hardware_address(address).map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_by_their_address() {
        assert_eq!(link_address(Ipv4Addr::new(10, 41, 0, 7)), "0a:58:0a:29:00:07");
    }
}
