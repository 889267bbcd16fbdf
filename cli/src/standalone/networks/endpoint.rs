//! What `inspect` tells of a container's part in a network: Docker's fields, those that are known to be empty too, since
//! templates name them.

use super::Known;
use crate::settings::Settings;
use crate::standalone::network::End;
use knarr_agent::engine::network::part::Held;
use knarr_images::Digest;
use serde_json::{Value, json};

/// One of `NetworkSettings.Networks`.
pub(crate) fn of(settings: &Settings, name: &str, container: &str, end: &End) -> Value {
    let id = end.record.as_ref().map(|record| record.id.clone());
    let id = id.unwrap_or_else(|| Known::shared().id(settings));
    let mut document = empty(&id);
    let wanted = &end.membership;
    if !wanted.aliases.is_empty() {
        document["Aliases"] = json!(wanted.aliases);
    }
    if !wanted.links.is_empty() {
        let links = wanted.links.iter().map(|(other, alias)| format!("{other}:{alias}"));
        document["Links"] = json!(links.collect::<Vec<_>>());
    }
    if wanted.address.is_some() || wanted.second.is_some() {
        let mut config = json!({});
        wanted.address.iter().for_each(|address| config["IPv4Address"] = json!(address));
        wanted.second.iter().for_each(|address| config["IPv6Address"] = json!(address));
        document["IPAMConfig"] = config;
    }
    if end.record.is_some() {
        document["DNSNames"] = json!([&[name.to_owned()], &wanted.aliases[..]].concat());
    }
    document["GwPriority"] = json!(wanted.priority);
    if let Some(held) = &end.held {
        document["EndpointID"] = json!(endpoint_id(&id, container));
        addresses(&mut document, held);
    }
    document
}

/// Of a network that it is not (yet) connected to, or that has no addresses.
pub(crate) fn empty(id: &str) -> Value {
    json!({
        "IPAMConfig": Value::Null, "Links": Value::Null, "Aliases": Value::Null, "DriverOpts": Value::Null,
        "GwPriority": 0, "NetworkID": id, "EndpointID": "", "Gateway": "", "IPAddress": "", "MacAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": Value::Null,
    })
}

fn addresses(document: &mut Value, held: &Held) {
    let (gateway, prefix) = held.gateway;
    document["Gateway"] = json!(gateway);
    document["IPAddress"] = json!(held.address);
    document["MacAddress"] = json!(hardware(held));
    document["IPPrefixLen"] = json!(prefix);
    if let Some((address, (gateway, prefix))) = held.second {
        document["IPv6Gateway"] = json!(gateway);
        document["GlobalIPv6Address"] = json!(address);
        document["GlobalIPv6PrefixLen"] = json!(prefix);
    }
}

/// What stands in `NetworkSettings` itself: of the bridge that all share.
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

pub(crate) fn endpoint_id(network: &str, container: &str) -> String {
    Digest::of(format!("{network} {container}").as_bytes()).hex().to_owned()
}

/// The address of its link.
pub(crate) fn hardware(held: &Held) -> String {
    held.hardware.map(|byte| format!("{byte:02x}")).join(":")
}
