//! Where the UDP flows to services may lead, as a pure function of their ports.
//!
//! As for TCP, a change of a policy does not end a flow: it may go on to any endpoint that answers, wherever that is.

use super::ports::{ServicePort, Target};
use crate::conntrack::{Ways, any};
use std::net::SocketAddr;

/// For each address and port of each UDP service its endpoints.
pub(crate) fn ways(ports: &[ServicePort]) -> Ways {
    let mut ways = Ways::default();
    for port in ports.iter().filter(|port| port.protocol == "udp") {
        let endpoints =
            || port.serving.iter().map(|&(address, number): &Target| SocketAddr::new(address, number));
        for address in port.cluster_ips.iter().chain(&port.external_ips) {
            ways.add(SocketAddr::new(*address, port.port), endpoints());
        }
        if let (Some(number), Some(like)) = (port.node_port, port.cluster_ips.first()) {
            ways.add(any(*like, number), endpoints());
        }
    }
    ways
}
