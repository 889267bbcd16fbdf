//! The nftables table of all services, as a pure function of their ports.
//!
//! ```text
//! prerouting, output -> services -> map service-ips    -> service/ID  -> dnat to an endpoint, in turn
//!                                -> map external-ips   -> external/ID -> (masquerade) service/ID
//!                                -> map node-ports     -> external/ID
//! forward, output (filter): what still has a service's address has no endpoint: reject
//! ```

use super::ports::{ServicePort, Target};
use crate::engine::network::cidr::Cidr;
use crate::nft::{Chain, Set, Table};
use std::collections::BTreeSet;

/// The packet mark that asks postrouting for a masquerade: the same bit that kube-proxy uses.
const MASQUERADE_MARK: &str = "0x4000";

/// What the table depends on besides services.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) table: String,
    /// Addresses of pods: they reach services with their own address.
    pub(crate) cluster: Cidr,
    /// Addresses of services.
    pub(crate) services: Cidr,
}

/// The whole table for these ports.
pub(crate) fn table(frame: &Frame, ports: &[ServicePort]) -> Table {
    let mut table = Table::new(&frame.table);
    add_base_chains(&mut table, frame);
    for (name, definition) in [
        ("service-ips", "type ipv4_addr . inet_proto . inet_service : verdict;"),
        ("external-ips", "type ipv4_addr . inet_proto . inet_service : verdict;"),
        ("node-ports", "type inet_proto . inet_service : verdict;"),
        ("cluster-ips", "type ipv4_addr;"),
        ("hairpin", "type ipv4_addr . ipv4_addr;"),
    ] {
        table.sets.insert(name.to_owned(), Set::new(definition));
    }
    for port in ports {
        add_port(&mut table, frame, port);
    }
    table
}

fn add_base_chains(table: &mut Table, frame: &Frame) {
    let Frame { cluster, services, .. } = frame;
    let lookup = vec!["jump services".to_owned()];
    // A reset is not subject to the kernel's rate limit on ICMP errors.
    let reject = vec![
        format!("ip daddr {services} meta l4proto tcp reject with tcp reset"),
        "ip daddr @cluster-ips meta l4proto tcp reject with tcp reset".to_owned(),
        format!("ip daddr {services} reject"),
        "ip daddr @cluster-ips reject".to_owned(),
    ];
    let dispatch = vec![
        format!("ip daddr @cluster-ips ip saddr != {cluster} meta mark set meta mark | {MASQUERADE_MARK}"),
        "ip daddr . meta l4proto . th dport vmap @service-ips".to_owned(),
        "ip daddr . meta l4proto . th dport vmap @external-ips".to_owned(),
        "fib daddr type local meta l4proto . th dport vmap @node-ports".to_owned(),
    ];
    let masquerade = vec![
        "ip saddr . ip daddr @hairpin ct status dnat masquerade".to_owned(),
        format!(
            "meta mark & {MASQUERADE_MARK} == {MASQUERADE_MARK} meta mark set meta mark & 0xffffbfff ct status dnat \
             masquerade"
        ),
    ];
    let chains = [
        (
            "prerouting",
            Chain::base("type nat hook prerouting priority dstnat; policy accept;", lookup.clone()),
        ),
        ("output", Chain::base("type nat hook output priority -100; policy accept;", lookup)),
        ("postrouting", Chain::base("type nat hook postrouting priority srcnat; policy accept;", masquerade)),
        (
            "no-endpoints-forward",
            Chain::base("type filter hook forward priority filter; policy accept;", reject.clone()),
        ),
        (
            "no-endpoints-output",
            Chain::base("type filter hook output priority filter; policy accept;", reject),
        ),
        ("services", Chain::plain(dispatch)),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.to_owned(), chain)));
}

fn add_port(table: &mut Table, frame: &Frame, port: &ServicePort) {
    for address in &port.cluster_ips {
        insert(table, "cluster-ips", address.to_string(), String::new());
    }
    for (address, _) in port.internal.iter().chain(port.local_only.iter().flatten()) {
        insert(table, "hairpin", format!("{address} . {address}"), String::new());
    }
    let service = format!("service/{}", port.id);
    if !port.internal.is_empty() {
        for address in &port.cluster_ips {
            let key = format!("{address} . {} . {}", port.protocol, port.port);
            insert(table, "service-ips", key, format!("goto {service}"));
        }
        balance(table, &service, port, &port.internal);
    }
    add_outside(table, frame, port, &service);
}

/// The ways in for clients that are not in the cluster.
fn add_outside(table: &mut Table, frame: &Frame, port: &ServicePort, service: &str) {
    let published = port.node_port.is_some() || !port.external_ips.is_empty();
    if !published || (port.internal.is_empty() && port.local_only.is_none()) {
        return;
    }
    let chain = format!("external/{}", port.id);
    let rules = match &port.local_only {
        None => vec![format!("meta mark set meta mark | {MASQUERADE_MARK}"), format!("goto {service}")],
        Some(local) => local_rules(table, frame, port, service, local),
    };
    table.chains.insert(chain.clone(), Chain::plain(rules));
    for address in &port.external_ips {
        let key = format!("{address} . {} . {}", port.protocol, port.port);
        insert(table, "external-ips", key, format!("goto {chain}"));
    }
    if let Some(number) = port.node_port {
        insert(table, "node-ports", format!("{} . {number}", port.protocol), format!("goto {chain}"));
    }
}

/// `externalTrafficPolicy: Local`: the client's address is kept, so only endpoints on this node may answer. Clients
/// inside the cluster are not bound by it.
fn local_rules(
    table: &mut Table,
    frame: &Frame,
    port: &ServicePort,
    service: &str,
    local: &BTreeSet<Target>,
) -> Vec<String> {
    let mut rules = Vec::new();
    if !port.internal.is_empty() {
        rules.push(format!("ip saddr {} goto {service}", frame.cluster));
        rules
            .push(format!("fib saddr type local meta mark set meta mark | {MASQUERADE_MARK} goto {service}"));
    }
    if local.is_empty() {
        rules.push("drop".to_owned());
        return rules;
    }
    let chain = format!("local/{}", port.id);
    balance(table, &chain, port, local);
    rules.push(format!("goto {chain}"));
    rules
}

/// Fills `chain` with the choice among the targets: one after the other, each new connection the next.
fn balance(table: &mut Table, chain: &str, port: &ServicePort, targets: &BTreeSet<Target>) {
    let rules = match port.affinity {
        None => vec![format!(
            "meta l4proto {} dnat ip to {}",
            port.protocol,
            in_turn(targets, |(a, p)| format!("{a} . {p}"))
        )],
        Some(seconds) => remembered(table, chain, port, targets, seconds),
    };
    table.chains.insert(chain.to_owned(), Chain::plain(rules));
}

fn in_turn(targets: &BTreeSet<Target>, value: impl Fn(&Target) -> String) -> String {
    let list: Vec<String> =
        targets.iter().enumerate().map(|(n, target)| format!("{n} : {}", value(target))).collect();
    format!("numgen inc mod {} map {{ {} }}", targets.len(), list.join(", "))
}

/// ClientIP affinity: each endpoint has a set of the clients it served lately; a known client goes where it was.
fn remembered(
    table: &mut Table,
    chain: &str,
    port: &ServicePort,
    targets: &BTreeSet<Target>,
    seconds: u32,
) -> Vec<String> {
    let endpoint = |(address, number): &Target| format!("{chain}/{address}/{number}");
    let mut rules = Vec::new();
    for target in targets {
        let name = endpoint(target);
        let set = format!("clients-{name}");
        let clients = format!("type ipv4_addr; flags dynamic,timeout; timeout {seconds}s;");
        table.sets.insert(set.clone(), Set::new(clients));
        rules.push(format!("ip saddr @{set} goto {name}"));
        let (address, number) = target;
        let serve = vec![
            format!("update @{set} {{ ip saddr }}"),
            format!("meta l4proto {} dnat ip to {address}:{number}", port.protocol),
        ];
        table.chains.insert(name, Chain::plain(serve));
    }
    let choice = in_turn(targets, |target| format!("goto {}", endpoint(target)));
    rules.push(choice.replacen(" map ", " vmap ", 1));
    rules
}

fn insert(table: &mut Table, set: &str, key: String, value: String) {
    if let Some(set) = table.sets.get_mut(set) {
        // The first of two services that claim the same address and port keeps it.
        set.elements.entry(key).or_insert(value);
    }
}
