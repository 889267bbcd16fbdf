//! Networks, namespaces, host names and name servers.

use super::environment;
use crate::args::CreateOptions;
use crate::standalone::shared;
use anyhow::bail;
use knarr_agent::cri::v1::{DnsConfig, KeyValue, NamespaceMode, NamespaceOption};
use std::collections::HashMap;
use std::net::IpAddr;

/// What Docker sets in every network namespace that it makes.
const OPEN_NETWORK: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// What `--network` is without that somebody has made it.
pub(in crate::standalone) fn is_built_in(name: &str) -> bool {
    matches!(name, "bridge" | "default" | "none" | "host") || shared::target(name).is_some()
}

pub(super) fn network_mode(name: &str) -> NamespaceMode {
    match name {
        "bridge" | "default" => NamespaceMode::Pod,
        "none" => NamespaceMode::Container,
        // What it has of its own stays unused.
        name if shared::target(name).is_some() => NamespaceMode::Container,
        "host" => NamespaceMode::Node,
        // One that somebody made; whether it is there is looked up by whoever makes the container.
        _ => NamespaceMode::Pod,
    }
}

/// What nobody can have, and what cannot be had together with the network of another container.
pub(super) fn check(options: &CreateOptions) -> anyhow::Result<()> {
    if let Some(wrong) = options.dns.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        bail!(
            "invalid argument {wrong:?} for \"--dns\" flag: IP address is not correctly formatted: {wrong}"
        );
    }
    super::ports::check_exposed(&options.expose)?;
    if shared::target(&options.network).is_none() {
        return Ok(());
    }
    let conflicts = [
        (options.hostname.is_some(), "hostname and the network mode"),
        (!options.dns.is_empty(), "dns and the network mode"),
        (!options.add_host.is_empty(), "custom host-to-IP mapping and the network mode"),
        (
            !options.publish.is_empty() || options.publish_all,
            "port publishing and the container type network mode",
        ),
        (!options.expose.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.into_iter().find(|(given, _)| *given) {
        Some((_, what)) => bail!("conflicting options: {what}"),
        None => Ok(()),
    }
}

pub(super) fn namespaces(options: &CreateOptions, network: NamespaceMode) -> anyhow::Result<NamespaceOption> {
    let pid = match options.pid.as_deref() {
        None | Some("" | "private") => NamespaceMode::Container,
        Some("host") => NamespaceMode::Node,
        Some(name) if shared::target(name).is_some() => NamespaceMode::Container,
        Some(_) => bail!("--pid: invalid PID mode"),
    };
    let ipc = match options.ipc.as_deref() {
        None | Some("" | "private" | "shareable") => NamespaceMode::Pod,
        Some("host") => NamespaceMode::Node,
        Some(name) if shared::target(name).is_some() => NamespaceMode::Pod,
        Some(other) => bail!("invalid IPC mode: {other}"),
    };
    Ok(NamespaceOption {
        network: network as i32,
        pid: pid as i32,
        ipc: ipc as i32,
        ..NamespaceOption::default()
    })
}

/// A container in the host's network keeps the host's name, which CRI expresses by an empty one.
pub(super) fn hostname(options: &CreateOptions, otherwise: &str, network: NamespaceMode) -> String {
    match (&options.hostname, network) {
        (Some(hostname), _) => hostname.clone(),
        (None, NamespaceMode::Node) => String::new(),
        (None, _) => otherwise.to_owned(),
    }
}

/// A name that was asked for in the host's network, where the host's own would be told.
pub(super) fn with_hostname(options: &CreateOptions, mut given: Vec<KeyValue>) -> Vec<KeyValue> {
    if let Some(hostname) = options.hostname.as_ref().filter(|_| options.network == "host") {
        given.insert(0, KeyValue { key: "HOSTNAME".into(), value: hostname.clone().into_bytes() });
    }
    given
}

/// What was asked for. In a network of its own everybody may listen at any port and send pings, as Docker has it: that is
/// nobody else's business there.
pub(super) fn sysctls(
    options: &CreateOptions,
    network: NamespaceMode,
) -> anyhow::Result<HashMap<String, String>> {
    let mut sysctls: HashMap<String, String> =
        environment::pairs("sysctl", &options.sysctl)?.into_iter().collect();
    let own = network != NamespaceMode::Node && shared::target(&options.network).is_none();
    for (name, value) in OPEN_NETWORK.into_iter().filter(|_| own) {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        // An old kernel has none of them, and a node in a container may have none to change.
        if rustix::fs::access(&file, rustix::fs::Access::WRITE_OK).is_ok() {
            sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    Ok(sysctls)
}

/// What was asked for; the host's own for the rest, without name servers that only the host can reach.
pub(super) fn dns(options: &CreateOptions) -> DnsConfig {
    let host = host_dns(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let or = |given: &[String], host: Vec<String>| if given.is_empty() { host } else { given.to_vec() };
    DnsConfig {
        servers: or(&options.dns, host.servers),
        searches: or(&options.dns_search, host.searches),
        options: or(&options.dns_option, host.options),
    }
}

fn host_dns(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                dns.servers.extend(words.next().filter(|server| reachable(server)).map(str::to_owned))
            }
            Some("search") => dns.searches = words.map(str::to_owned).collect(),
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

fn reachable(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback())
}
