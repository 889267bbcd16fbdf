//! The nftables table of the built-in network, as a pure function of the configuration and the allocations.
//!
//! Host ports are two map look-ups however many there are. Our table never accepts on behalf of others: a packet
//! that another table drops (a `FORWARD` policy of a firewall) stays dropped.

use super::cidr::Cidr;
use super::ledger::{Allocation, PortRecord};
use crate::nft::{Chain, Set, Table};
use std::net::IpAddr;

/// What the table depends on besides the pods.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) table: String,
    pub(crate) bridge: String,
    /// Packets that stay inside keep their source address.
    pub(crate) cluster: Cidr,
}

/// The whole table for these pods.
pub(crate) fn table<'a>(frame: &Frame, pods: impl IntoIterator<Item = &'a Allocation>) -> Table {
    let mut table = Table::new(&frame.table);
    add_chains(&mut table, frame);
    let mut hairpin = Set::new("type ipv4_addr . ipv4_addr;");
    let mut addresses = Set::new("type ipv4_addr;");
    let mut any = Set::new("type inet_proto . inet_service : ipv4_addr . inet_service;");
    let mut bound = Set::new("type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;");
    for pod in pods {
        hairpin.elements.insert(format!("{0} . {0}", pod.address), String::new());
        addresses.elements.insert(pod.address.to_string(), String::new());
        for port in &pod.host_ports {
            let target = format!("{} . {}", pod.address, port.container_port);
            match host_address(port) {
                Some(address) => bound
                    .elements
                    .insert(format!("{address} . {} . {}", port.protocol, port.host_port), target),
                None => any.elements.insert(format!("{} . {}", port.protocol, port.host_port), target),
            };
        }
    }
    table.sets.extend([
        ("hairpin".to_owned(), hairpin),
        ("pods".to_owned(), addresses),
        ("host-ports".to_owned(), any),
        ("bound-host-ports".to_owned(), bound),
    ]);
    table
}

/// The pod network has IPv4 only: a port bound to an IPv6 address leads nowhere, and `::` means any address.
fn host_address(port: &PortRecord) -> Option<IpAddr> {
    port.host_ip.filter(|address| !address.is_unspecified() && address.is_ipv4())
}

fn add_chains(table: &mut Table, frame: &Frame) {
    let Frame { bridge, cluster, .. } = frame;
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
        (
            "to-pods",
            Chain::plain(vec![
                "dnat ip to ip daddr . meta l4proto . th dport map @bound-host-ports".to_owned(),
                "dnat ip to meta l4proto . th dport map @host-ports".to_owned(),
            ]),
        ),
        (
            "postrouting",
            Chain::base(
                "type nat hook postrouting priority srcnat; policy accept;",
                vec![
                    // A pod that reaches itself by a service would drop a packet from its own address.
                    "ip saddr . ip daddr @hairpin ct status dnat masquerade".to_owned(),
                    // A host process that uses a host port at 127.0.0.1: the answer must find back.
                    format!("ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade"),
                    format!("ip saddr {cluster} ip daddr != {cluster} oifname != \"{bridge}\" masquerade"),
                    // The same for pods whose range the cluster chose elsewhere.
                    format!("ip saddr @pods ip daddr != {cluster} oifname != \"{bridge}\" masquerade"),
                ],
            ),
        ),
        (
            // route_localnet (below) must not let pods reach what listens on the host's loopback only.
            "no-foreign-loopback",
            Chain::base(
                "type filter hook prerouting priority raw; policy accept;",
                vec![format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop")],
            ),
        ),
        (
            // Pods must keep sending through the bridge's address: a redirect would take the answer past conntrack.
            // The bridge sends none (a sysctl), unless somebody changes the sysctl of all links.
            "no-redirects",
            Chain::base(
                "type filter hook output priority filter; policy accept;",
                vec![format!("oifname \"{bridge}\" icmp type redirect drop")],
            ),
        ),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.to_owned(), chain)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn frame() -> Frame {
        Frame {
            table: "knarr".into(),
            bridge: "knarr0".into(),
            cluster: Cidr::parse("10.42.0.0/16").unwrap(),
        }
    }

    fn pod(last: u8, ports: &[(&str, Option<&str>, u16, u16)]) -> Allocation {
        Allocation {
            sandbox_id: format!("pod{last}"),
            owner: "/x".into(),
            address: Ipv4Addr::new(10, 42, 0, last),
            gateway: Ipv4Addr::new(10, 42, 0, 1),
            prefix: 24,
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
}
