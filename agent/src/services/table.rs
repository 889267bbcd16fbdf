//! The nftables table of all services, as a pure function of their ports.
//!
//! ```text
//! prerouting, output -> services -> map service-ips    -> service/ID  -> dnat to an endpoint, in turn
//!                                -> map external-ips   -> external/ID -> (masquerade) service/ID
//!                                -> map node-ports     -> external/ID
//! prerouting, output (filter, before that) -> map limited-ips -> limited/ID: ranges of clients accepted, others dropped
//! input, forward, output (filter) -> maps unserved-ips, unserved-ports -> refuse, or drop where others have endpoints
//! forward, output (filter): what still has a service's address has no endpoint: refuse
//! ```

use super::ports::{ServicePort, Target};
use super::source_ranges;
use crate::nft::{Chain, Family, Set, Table};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The packet mark that asks postrouting for a masquerade: the same bit that kube-proxy uses.
const MASQUERADE_MARK: &str = "0x4000";

/// What the table depends on besides services.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) table: String,
    /// Addresses by which this node is reached.
    pub(crate) node: Vec<IpAddr>,
    pub(crate) four: Ranges,
    pub(crate) six: Ranges,
}

/// The cluster's addresses of one family, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges {
    /// Of pods: they reach services with their own address.
    pub(crate) cluster: Option<String>,
    /// Of services.
    pub(crate) services: Option<String>,
}

impl Frame {
    fn ranges(&self, family: Family) -> &Ranges {
        match family {
            Family::Four => &self.four,
            Family::Six => &self.six,
        }
    }
}

impl ServicePort {
    /// One of its chains.
    fn chain(&self, kind: &str) -> String {
        format!("{kind}{}/{}", self.family.mark(), self.id)
    }

    /// One of its addresses with its port, as sets have them.
    fn key(&self, address: &IpAddr) -> String {
        format!("{address} . {} . {}", self.protocol, self.port)
    }

    /// The set of its family.
    fn set(&self, name: &str) -> String {
        format!("{name}{}", self.family.mark())
    }
}

/// The whole table for these ports. A node without addresses of version 6 has no rules for them, for its kernel may not
/// know them at all.
pub(crate) fn table(frame: &Frame, ports: &[ServicePort]) -> Table {
    let mut table = Table::new(&frame.table);
    let has_six = frame.six.services.is_some() || ports.iter().any(|port| port.family == Family::Six);
    let families = if has_six { &[Family::Four, Family::Six][..] } else { &[Family::Four] };
    add_base_chains(&mut table, frame, families);
    for family in families {
        let address = family.address();
        for (name, definition) in [
            ("service-ips", format!("type {address} . inet_proto . inet_service : verdict;")),
            ("external-ips", format!("type {address} . inet_proto . inet_service : verdict;")),
            ("node-ports", "type inet_proto . inet_service : verdict;".to_owned()),
            ("cluster-ips", format!("type {address};")),
            ("unserved-ips", format!("type {address} . inet_proto . inet_service : verdict;")),
            ("unserved-ports", "type inet_proto . inet_service : verdict;".to_owned()),
            ("hairpin", format!("type {address} . {address};")),
        ] {
            table.sets.insert(format!("{name}{}", family.mark()), Set::new(definition));
        }
    }
    for port in ports {
        add_port(&mut table, frame, port);
        add_limit(&mut table, frame, port);
    }
    table
}

/// Lets only those clients to the load balancer's addresses that the service names. Packets pass through chains for this
/// only where there is such a service.
fn add_limit(table: &mut Table, frame: &Frame, port: &ServicePort) {
    let Some(ranges) = port.sources.as_ref().filter(|_| !port.balancer_ips.is_empty()) else { return };
    let chain = port.chain("limited");
    let definition = format!("type {} . inet_proto . inet_service : verdict;", port.family.address());
    table.sets.entry(port.set("limited-ips")).or_insert_with(|| Set::new(definition));
    for address in &port.balancer_ips {
        insert(table, &port.set("limited-ips"), port.key(address), format!("goto {chain}"));
    }
    table.chains.insert(chain, Chain::plain(source_ranges::rules(port, ranges, &frame.node)));
    let (header, set) = (port.family.header(), port.set("limited-ips"));
    let look_up = format!("ct state new {header} daddr . meta l4proto . th dport vmap @{set}");
    for (name, hook) in [
        ("limits", "type filter hook prerouting priority dstnat - 10; policy accept;"),
        ("limits-output", "type filter hook output priority -110; policy accept;"),
    ] {
        let base = table.chains.entry(name.to_owned()).or_insert_with(|| Chain::base(hook, Vec::new()));
        if !base.rules.contains(&look_up) {
            base.rules.push(look_up.clone());
        }
    }
}

fn add_base_chains(table: &mut Table, frame: &Frame, families: &[Family]) {
    let lookup = vec!["jump services".to_owned()];
    let each = |rules: fn(&Frame, Family) -> Vec<String>| -> Vec<String> {
        families.iter().flat_map(|&family| rules(frame, family)).collect()
    };
    let (unserved, unknown, dispatch) = (each(unserved), each(unknown), each(dispatch));
    let all = [unserved.clone(), unknown].concat();
    let refuse = ["meta l4proto tcp reject with tcp reset", "reject"].map(str::to_owned).to_vec();
    let mut masquerade: Vec<String> = families.iter().map(|&family| hairpin(family)).collect();
    masquerade.push(format!(
        "meta mark & {MASQUERADE_MARK} == {MASQUERADE_MARK} meta mark set meta mark & 0xffffbfff ct status dnat masquerade"
    ));
    let chains = [
        (
            "prerouting",
            Chain::base("type nat hook prerouting priority dstnat; policy accept;", lookup.clone()),
        ),
        ("output", Chain::base("type nat hook output priority -100; policy accept;", lookup)),
        ("postrouting", Chain::base("type nat hook postrouting priority srcnat; policy accept;", masquerade)),
        (
            "no-endpoints-input",
            Chain::base("type filter hook input priority filter; policy accept;", unserved),
        ),
        (
            "no-endpoints-forward",
            Chain::base("type filter hook forward priority filter; policy accept;", all.clone()),
        ),
        ("no-endpoints-output", Chain::base("type filter hook output priority filter; policy accept;", all)),
        // A reset is not subject to the kernel's rate limit on ICMP errors.
        ("refuse", Chain::plain(refuse)),
        ("services", Chain::plain(dispatch)),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.to_owned(), chain)));
}

/// Ports of services that have no endpoints for whoever asks here.
fn unserved(_frame: &Frame, family: Family) -> Vec<String> {
    let (header, mark, version) = (family.header(), family.mark(), version(family));
    vec![
        format!("ct state new {header} daddr . meta l4proto . th dport vmap @unserved-ips{mark}"),
        format!(
            "ct state new meta nfproto {version} fib daddr type local meta l4proto . th dport vmap @unserved-ports{mark}"
        ),
    ]
}

/// Addresses of services with ports that are nobody's.
fn unknown(frame: &Frame, family: Family) -> Vec<String> {
    let (header, mark) = (family.header(), family.mark());
    let services = frame.ranges(family).services.clone();
    let places = services.into_iter().chain([format!("@cluster-ips{mark}")]);
    places.map(|place| format!("{header} daddr {place} goto refuse")).collect()
}

fn version(family: Family) -> &'static str {
    match family {
        Family::Four => "ipv4",
        Family::Six => "ipv6",
    }
}

fn dispatch(frame: &Frame, family: Family) -> Vec<String> {
    let (header, mark, version) = (family.header(), family.mark(), version(family));
    let foreign = frame.ranges(family).cluster.as_ref().map(|cluster| {
        format!(
            "{header} daddr @cluster-ips{mark} {header} saddr != {cluster} meta mark set meta mark | {MASQUERADE_MARK}"
        )
    });
    let look_ups = [
        format!("{header} daddr . meta l4proto . th dport vmap @service-ips{mark}"),
        format!("{header} daddr . meta l4proto . th dport vmap @external-ips{mark}"),
        format!("meta nfproto {version} fib daddr type local meta l4proto . th dport vmap @node-ports{mark}"),
    ];
    foreign.into_iter().chain(look_ups).collect()
}

fn hairpin(family: Family) -> String {
    let (header, mark) = (family.header(), family.mark());
    format!("{header} saddr . {header} daddr @hairpin{mark} ct status dnat masquerade")
}

fn add_port(table: &mut Table, frame: &Frame, port: &ServicePort) {
    for address in &port.cluster_ips {
        insert(table, &port.set("cluster-ips"), address.to_string(), String::new());
    }
    for (address, _) in port.targets() {
        insert(table, &port.set("hairpin"), format!("{address} . {address}"), String::new());
    }
    let service = port.chain("service");
    let (set, verdict) = match port.internal.is_empty() {
        false => ("service-ips", format!("goto {service}")),
        true => ("unserved-ips", unserved_verdict(port).to_owned()),
    };
    for address in &port.cluster_ips {
        insert(table, &port.set(set), port.key(address), verdict.clone());
    }
    if !port.internal.is_empty() {
        balance(table, &service, port, &port.internal);
    }
    add_outside(table, frame, port, &service);
}

/// The ways in for clients that are not in the cluster.
fn add_outside(table: &mut Table, frame: &Frame, port: &ServicePort, service: &str) {
    if port.node_port.is_none() && port.external_ips.is_empty() {
        return;
    }
    if port.targets().next().is_none() {
        let verdict = unserved_verdict(port).to_owned();
        return lead_outside(table, port, ["unserved-ips", "unserved-ports"], &verdict);
    }
    let cluster = cluster_chain(table, port, service);
    let chain = port.chain("external");
    let rules = match &port.local_only {
        None => vec![format!("meta mark set meta mark | {MASQUERADE_MARK}"), format!("goto {cluster}")],
        Some(local) => local_rules(table, frame, port, &cluster, local),
    };
    table.chains.insert(chain.clone(), Chain::plain(rules));
    lead_outside(table, port, ["external-ips", "node-ports"], &format!("goto {chain}"));
}

/// What becomes of packets to the addresses of load balancers, and to the node port.
fn lead_outside(table: &mut Table, port: &ServicePort, [ips, ports]: [&str; 2], verdict: &str) {
    for address in &port.external_ips {
        insert(table, &port.set(ips), port.key(address), verdict.to_owned());
    }
    if let Some(number) = port.node_port {
        let key = format!("{} . {number}", port.protocol);
        insert(table, &port.set(ports), key, verdict.to_owned());
    }
}

/// Refused where nobody answers; where only this node has no endpoint, another way may lead to one, so nothing is said.
fn unserved_verdict(port: &ServicePort) -> &'static str {
    if port.targets().next().is_none() { "goto refuse" } else { "drop" }
}

/// The chain that leads to endpoints wherever they are.
fn cluster_chain(table: &mut Table, port: &ServicePort, service: &str) -> String {
    match &port.cluster {
        None => service.to_owned(),
        Some(cluster) => {
            let chain = port.chain("cluster");
            if !cluster.is_empty() {
                balance(table, &chain, port, cluster);
            }
            chain
        }
    }
}

/// `externalTrafficPolicy: Local`: the client's address is kept, so only endpoints on this node may answer. Clients
/// inside the cluster are not bound by it.
fn local_rules(
    table: &mut Table,
    frame: &Frame,
    port: &ServicePort,
    cluster_chain: &str,
    local: &BTreeSet<Target>,
) -> Vec<String> {
    let mut rules = Vec::new();
    if !port.everywhere().is_empty() {
        let cluster = frame.ranges(port.family).cluster.as_ref();
        let inside =
            cluster.map(|cluster| format!("{} saddr {cluster} goto {cluster_chain}", port.family.header()));
        rules.extend(inside);
        rules.push(format!(
            "fib saddr type local meta mark set meta mark | {MASQUERADE_MARK} goto {cluster_chain}"
        ));
    }
    if local.is_empty() {
        rules.push("drop".to_owned());
        return rules;
    }
    let chain = port.chain("local");
    balance(table, &chain, port, local);
    rules.push(format!("goto {chain}"));
    rules
}

/// Fills `chain` with the choice among the targets: one after the other, each new connection the next.
fn balance(table: &mut Table, chain: &str, port: &ServicePort, targets: &BTreeSet<Target>) {
    let rules = match port.affinity {
        None => vec![format!(
            "meta l4proto {} dnat {} to {}",
            port.protocol,
            port.family.header(),
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
    let header = port.family.header();
    // A name has no colons.
    let endpoint =
        |(address, number): &Target| format!("{chain}/{}/{number}", address.to_string().replace(':', "-"));
    let mut rules = Vec::new();
    for target in targets {
        let name = endpoint(target);
        let set = format!("clients-{name}");
        let clients = format!("type {}; flags dynamic,timeout; timeout {seconds}s;", port.family.address());
        table.sets.insert(set.clone(), Set::new(clients));
        rules.push(format!("{header} saddr @{set} goto {name}"));
        let (address, number) = target;
        let serve = vec![
            format!("update @{set} {{ {header} saddr }}"),
            format!("meta l4proto {} dnat {header} to {}", port.protocol, SocketAddr::new(*address, *number)),
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
