//! The nftables table of the built-in network, as a pure function of the configuration and the allocations.
//!
//! Host ports are two map look-ups however many there are. Our table never accepts on behalf of others: a packet
//! that another table drops (a `FORWARD` policy of a firewall) stays dropped.

use super::bridge::Apart;
use super::cidr::Cidr;
use super::ledger::{Allocation, PortRecord};
use super::pod_range::Cidr6;
use crate::nft::{Chain, Set, Table};
use std::net::IpAddr;

/// What the table depends on besides the pods.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) table: String,
    pub(crate) bridge: String,
    /// Packets that stay inside keep their source address.
    pub(crate) cluster: Cidr,
    /// The same for IPv6; the table knows nothing of IPv6 where absent.
    pub(crate) second_cluster: Option<Cidr6>,
    /// It has no way to or from other networks but published ports.
    pub(crate) apart: Option<Apart>,
}

/// Names and types that differ between the two families of addresses.
struct Family {
    /// In names of sets.
    suffix: &'static str,
    /// Of an address, in sets.
    kind: &'static str,
    /// In rules.
    word: &'static str,
    is_mine: fn(&IpAddr) -> bool,
}

const IPV4: Family = Family { suffix: "", kind: "ipv4_addr", word: "ip", is_mine: IpAddr::is_ipv4 };
const IPV6: Family = Family { suffix: "6", kind: "ipv6_addr", word: "ip6", is_mine: IpAddr::is_ipv6 };

/// The whole table for these pods.
pub(crate) fn table<'a>(frame: &Frame, pods: impl IntoIterator<Item = &'a Allocation>) -> Table {
    let mut table = Table::new(&frame.table);
    add_chains(&mut table, frame);
    let pods: Vec<&Allocation> = pods.into_iter().collect();
    let first = pods.iter().map(|pod| (IpAddr::from(pod.address), pod.host_ports.as_slice()));
    add_sets(&mut table, &IPV4, first);
    if frame.second_cluster.is_some() {
        let second =
            pods.iter().filter_map(|pod| Some((pod.second?.address.into(), pod.host_ports.as_slice())));
        add_sets(&mut table, &IPV6, second);
    }
    table
}

/// Addresses of pods, and the ports of the host that lead to them.
fn add_sets<'a>(table: &mut Table, family: &Family, pods: impl Iterator<Item = (IpAddr, &'a [PortRecord])>) {
    let Family { suffix, kind, .. } = family;
    let mut hairpin = Set::new(format!("type {kind} . {kind};"));
    let mut addresses = Set::new(format!("type {kind};"));
    let mut any = Set::new(format!("type inet_proto . inet_service : {kind} . inet_service;"));
    let mut bound = Set::new(format!("type {kind} . inet_proto . inet_service : {kind} . inet_service;"));
    for (pod, ports) in pods {
        hairpin.elements.insert(format!("{pod} . {pod}"), String::new());
        addresses.elements.insert(pod.to_string(), String::new());
        for port in ports {
            let target = format!("{pod} . {}", port.container_port);
            let key = format!("{} . {}", port.protocol, port.host_port);
            match port.host_ip {
                None => drop(any.elements.insert(key, target)),
                Some(address) if (family.is_mine)(&address) && address.is_unspecified() => {
                    drop(any.elements.insert(key, target));
                }
                Some(address) if (family.is_mine)(&address) => {
                    bound.elements.insert(format!("{address} . {key}"), target);
                }
                // The other family's.
                Some(_) => {}
            }
        }
    }
    table.sets.extend([
        (format!("hairpin{suffix}"), hairpin),
        (format!("pods{suffix}"), addresses),
        (format!("host-ports{suffix}"), any),
        (format!("bound-host-ports{suffix}"), bound),
    ]);
}

/// Where packets for a host port go.
fn destinations(family: &Family) -> [String; 2] {
    let Family { suffix, word, .. } = family;
    [
        format!("dnat {word} to {word} daddr . meta l4proto . th dport map @bound-host-ports{suffix}"),
        format!("dnat {word} to meta l4proto . th dport map @host-ports{suffix}"),
    ]
}

/// Which packets leave with another source address.
fn sources(family: &Family, bridge: &str, cluster: &str) -> [String; 3] {
    let Family { suffix, word, .. } = family;
    [
        // A pod that reaches itself by a service would drop a packet from its own address.
        format!("{word} saddr . {word} daddr @hairpin{suffix} ct status dnat masquerade"),
        format!("{word} saddr {cluster} {word} daddr != {cluster} oifname != \"{bridge}\" masquerade"),
        // The same for pods whose range the cluster chose elsewhere.
        format!("{word} saddr @pods{suffix} {word} daddr != {cluster} oifname != \"{bridge}\" masquerade"),
    ]
}

fn add_chains(table: &mut Table, frame: &Frame) {
    let Frame { bridge, cluster, second_cluster, .. } = frame;
    let mut to_pods = destinations(&IPV4).to_vec();
    let mut postrouting = sources(&IPV4, bridge, &cluster.to_string()).to_vec();
    // A host process that uses a host port at 127.0.0.1: the answer must find back.
    postrouting.push(format!("ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade"));
    // Pods must keep sending through the bridge's address: a redirect would take the answer past conntrack. The bridge
    // sends none in IPv4 (a sysctl), unless somebody changes the sysctl of all links.
    let mut redirects = vec![format!("oifname \"{bridge}\" icmp type redirect drop")];
    if let Some(cluster) = second_cluster {
        to_pods.extend(destinations(&IPV6));
        postrouting.extend(sources(&IPV6, bridge, &cluster.to_string()));
        redirects.push(format!("oifname \"{bridge}\" icmpv6 type nd-redirect drop"));
    }
    let chains = [
        (
            "prerouting",
            Chain::base(
                "type nat hook prerouting priority dstnat; policy accept;",
                vec!["fib daddr type local goto to-pods".to_owned()],
            ),
        ),
        (
            "output",
            Chain::base(
                "type nat hook output priority -100; policy accept;",
                vec!["fib daddr type local goto to-pods".to_owned()],
            ),
        ),
        ("to-pods", Chain::plain(to_pods)),
        (
            "postrouting",
            Chain::base("type nat hook postrouting priority srcnat; policy accept;", postrouting),
        ),
        (
            // route_localnet (below) must not let pods reach what listens on the host's loopback only.
            "no-foreign-loopback",
            Chain::base(
                "type filter hook prerouting priority raw; policy accept;",
                vec![format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop")],
            ),
        ),
        ("no-redirects", Chain::base("type filter hook output priority filter; policy accept;", redirects)),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.to_owned(), chain)));
    if let Some(apart) = &frame.apart {
        let kind = "type filter hook forward priority filter; policy accept;";
        table.chains.insert("apart".to_owned(), Chain::base(kind, borders(bridge, apart)));
    }
}

/// What passes between this bridge and others.
fn borders(bridge: &str, apart: &Apart) -> Vec<String> {
    let mut rules = Vec::new();
    if apart.internal {
        rules.push(format!("iifname \"{bridge}\" oifname != \"{bridge}\" drop"));
        rules.push(format!("iifname != \"{bridge}\" oifname \"{bridge}\" drop"));
    }
    // A published port leads here, from wherever it is used.
    rules.push("ct status dnat accept".to_owned());
    rules.push(format!("iifname != \"{bridge}\" oifname \"{bridge}\" ct state new drop"));
    let others = apart.others.iter();
    rules.extend(others.map(|other| format!("iifname \"{bridge}\" oifname \"{other}\" ct state new drop")));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::network::pod_range::Second;
    use std::net::Ipv4Addr;

    fn frame() -> Frame {
        Frame {
            table: "knarr".into(),
            bridge: "knarr0".into(),
            cluster: Cidr::parse("10.42.0.0/16").unwrap(),
            second_cluster: None,
            apart: None,
        }
    }

    fn pod(last: u8, ports: &[(&str, Option<&str>, u16, u16)]) -> Allocation {
        Allocation {
            sandbox_id: format!("pod{last}"),
            owner: "/x".into(),
            address: Ipv4Addr::new(10, 42, 0, last),
            gateway: Ipv4Addr::new(10, 42, 0, 1),
            prefix: 24,
            second: None,
            network: String::new(),
            link: "eth0".to_owned(),
            hardware: None,
            host_ports: ports
                .iter()
                .map(|&(protocol, ip, host_port, container_port)| PortRecord {
                    protocol: protocol.into(),
                    host_ip: ip.map(|ip| ip.parse().unwrap()),
                    host_port,
                    container_port,
                })
                .collect(),
        }
    }

    #[test]
    fn a_new_pod_adds_elements_and_no_rules() {
        let old = pod(2, &[("tcp", None, 8080, 80)]);
        let new = pod(3, &[("udp", Some("192.0.2.7"), 53, 5353), ("tcp", Some("0.0.0.0"), 81, 80)]);
        let script = table(&frame(), [&old, &new]).difference(&table(&frame(), [&old]));
        assert_eq!(
            script,
            "add element inet knarr bound-host-ports { 192.0.2.7 . udp . 53 : 10.42.0.3 . 5353 }\n\
             add element inet knarr hairpin { 10.42.0.3 . 10.42.0.3 }\n\
             add element inet knarr host-ports { tcp . 81 : 10.42.0.3 . 80 }\n\
             add element inet knarr pods { 10.42.0.3 }\n"
        );
    }

    #[test]
    fn a_gone_pod_takes_its_elements() {
        let one = pod(2, &[("tcp", None, 8080, 80)]);
        let script = table(&frame(), []).difference(&table(&frame(), [&one]));
        assert_eq!(
            script,
            "delete element inet knarr hairpin { 10.42.0.2 . 10.42.0.2 }\n\
             delete element inet knarr host-ports { tcp . 8080 }\n\
             delete element inet knarr pods { 10.42.0.2 }\n"
        );
    }

    #[test]
    fn a_pod_of_both_families_has_its_ports_in_both() {
        let both = Frame { second_cluster: Some(Cidr6::parse("fd00::/64").unwrap()), ..frame() };
        let mut new = pod(3, &[("tcp", None, 81, 80), ("tcp", Some("fd99::7"), 82, 80)]);
        let second =
            Second { address: "fd00::3".parse().unwrap(), gateway: "fd00::1".parse().unwrap(), prefix: 64 };
        new.second = Some(second);
        let script = table(&both, [&new]).difference(&table(&both, []));
        assert_eq!(
            script,
            "add element inet knarr bound-host-ports6 { fd99::7 . tcp . 82 : fd00::3 . 80 }\n\
             add element inet knarr hairpin { 10.42.0.3 . 10.42.0.3 }\n\
             add element inet knarr hairpin6 { fd00::3 . fd00::3 }\n\
             add element inet knarr host-ports { tcp . 81 : 10.42.0.3 . 80 }\n\
             add element inet knarr host-ports6 { tcp . 81 : fd00::3 . 80 }\n\
             add element inet knarr pods { 10.42.0.3 }\n\
             add element inet knarr pods6 { fd00::3 }\n"
        );
    }
}
