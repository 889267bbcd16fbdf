//! Where the UDP flows to host ports may lead when pods come and go; and the end of those that lead elsewhere.
//!
//! A flow to a port that led nowhere, to a process of the host or to a pod that is gone does not find the pod that has
//! the port now.

use super::ledger::{Allocation, PortRecord};
use crate::conntrack::{self, Ways, any};
use std::net::{IpAddr, SocketAddr};

/// Ends the flows to the ports of pods that are gone, and those to the ports of pods that are there which do not reach
/// them; blocks. What fails is told and no more: the entries expire.
pub(crate) fn forget_stale<'a>(
    gone: impl IntoIterator<Item = &'a Allocation>,
    there: impl IntoIterator<Item = &'a Allocation>,
) {
    if let Err(error) = conntrack::forget_stale(&ways(gone, there)) {
        tracing::warn!(error = format!("{error:#}"), "flows to host ports not ended");
    }
}

fn ways<'a>(
    gone: impl IntoIterator<Item = &'a Allocation>,
    there: impl IntoIterator<Item = &'a Allocation>,
) -> Ways {
    let mut ways = Ways::default();
    for (destination, endpoint) in there.into_iter().flat_map(leads) {
        ways.add(destination, [endpoint]);
    }
    for (destination, _) in gone.into_iter().flat_map(leads) {
        ways.close(destination);
    }
    ways
}

/// Destination and endpoint of each UDP port of a pod, in each of its families.
fn leads(pod: &Allocation) -> Vec<(SocketAddr, SocketAddr)> {
    let addresses = [Some(pod.address.into()), pod.second.map(|second| second.address.into())];
    let udp = pod.host_ports.iter().filter(|port| port.protocol == "udp");
    udp.flat_map(|port| addresses.into_iter().flatten().filter_map(|pod| lead(port, pod))).collect()
}

/// Absent where the port is bound to an address of the other family.
fn lead(port: &PortRecord, pod: IpAddr) -> Option<(SocketAddr, SocketAddr)> {
    let destination = match port.host_ip {
        None => any(pod, port.host_port),
        Some(address) => SocketAddr::new(address, port.host_port),
    };
    (destination.is_ipv4() == pod.is_ipv4()).then(|| (destination, SocketAddr::new(pod, port.container_port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::network::pod_range::Second;

    fn pod(last: u8, ports: &[(&str, Option<&str>, u16)]) -> Allocation {
        let host_ports = ports.iter().map(|&(protocol, ip, number)| PortRecord {
            protocol: protocol.into(),
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port: number,
            container_port: 53,
        });
        let second = Second {
            address: format!("fd00::{last}").parse().unwrap(),
            gateway: "fd00::1".parse().unwrap(),
            prefix: 64,
        };
        Allocation {
            sandbox_id: format!("pod{last}"),
            owner: "/x".into(),
            address: [10, 42, 0, last].into(),
            gateway: [10, 42, 0, 1].into(),
            prefix: 24,
            second: Some(second),
            host_ports: host_ports.collect(),
            network: String::new(),
            link: "eth0".into(),
            hardware: None,
        }
    }

    fn text(ways: &Ways) -> String {
        let each = ways.0.iter().map(|(to, ends)| format!("{to} -> {ends:?}"));
        each.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_udp_port_leads_to_its_pod_in_its_families() {
        let ports = [
            ("udp", None, 5300),
            ("tcp", None, 5300),
            ("udp", Some("0.0.0.0"), 5301),
            ("udp", Some("fd99::7"), 5302),
        ];
        let expected = "0.0.0.0:5300 -> {10.42.0.2:53}\n\
                        0.0.0.0:5301 -> {10.42.0.2:53}\n\
                        [::]:5300 -> {[fd00::2]:53}\n\
                        [fd99::7]:5302 -> {[fd00::2]:53}";
        assert_eq!(text(&ways([], [&pod(2, &ports)])), expected);
    }

    #[test]
    fn what_is_gone_is_closed_unless_another_pod_has_it() {
        let old = pod(2, &[("udp", Some("0.0.0.0"), 5300), ("udp", Some("0.0.0.0"), 5301)]);
        let new = pod(3, &[("udp", Some("0.0.0.0"), 5301)]);
        assert_eq!(text(&ways([&old], [&new])), "0.0.0.0:5300 -> {}\n0.0.0.0:5301 -> {10.42.0.3:53}");
        assert_eq!(ways([&pod(2, &[("tcp", None, 80)])], []), Ways::default());
    }
}
