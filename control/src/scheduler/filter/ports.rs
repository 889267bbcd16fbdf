//! NodePorts: a host port can be had once per address and protocol; `0.0.0.0` is every address.

use super::Refusal;
use crate::scheduler::request::Request;
use crate::scheduler::snapshot::{HostPort, NodeState};

const ANY: &str = "0.0.0.0";

/// Rules out nodes where a wanted port is taken.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    let clashes = |(address, protocol, port): &HostPort| {
        node.ports.iter().any(|(other, other_protocol, other_port)| {
            port == other_port
                && protocol == other_protocol
                && (address == other || address == ANY || other == ANY)
        })
    };
    if request.ports.iter().any(clashes) {
        return Some(Refusal::passing("node(s) didn't have free ports for the requested pod ports"));
    }
    None
}
