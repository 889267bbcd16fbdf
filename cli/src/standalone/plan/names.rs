//! Networks, namespaces, host names and name servers.

use crate::args::CreateOptions;
use anyhow::bail;
use knarr_agent::cri::v1::{DnsConfig, NamespaceMode, NamespaceOption};
use std::net::IpAddr;

pub(super) fn network_mode(name: &str) -> anyhow::Result<NamespaceMode> {
    match name {
        "bridge" | "default" => Ok(NamespaceMode::Pod),
        "none" => Ok(NamespaceMode::Container),
        "host" => Ok(NamespaceMode::Node),
        other => bail!("network {other} not found: --network is bridge, host or none"),
    }
}

pub(super) fn namespaces(options: &CreateOptions, network: NamespaceMode) -> anyhow::Result<NamespaceOption> {
    let pid = match options.pid.as_deref() {
        None | Some("" | "private") => NamespaceMode::Container,
        Some("host") => NamespaceMode::Node,
        Some(other) => bail!("--pid {other}: invalid PID mode; host, or none given"),
    };
    let ipc = match options.ipc.as_deref() {
        None | Some("" | "private" | "shareable") => NamespaceMode::Pod,
        Some("host") => NamespaceMode::Node,
        Some(other) => bail!("--ipc {other}: invalid IPC mode; host or private"),
    };
    Ok(NamespaceOption {
        network: network as i32,
        pid: pid as i32,
        ipc: ipc as i32,
        ..NamespaceOption::default()
    })
}

/// A container in the host's network keeps the host's name, which CRI expresses by an empty one.
pub(super) fn hostname(options: &CreateOptions, name: &str, network: NamespaceMode) -> String {
    match (&options.hostname, network) {
        (Some(hostname), _) => hostname.clone(),
        (None, NamespaceMode::Node) => String::new(),
        (None, _) => name.chars().take(63).collect(),
    }
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
