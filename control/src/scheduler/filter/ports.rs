//! NodePorts: a host port can be had once per address and protocol; `0.0.0.0` is every address.

use super::Reasons;
use crate::scheduler::snapshot::{self, NodeState};
use k8s_openapi::api::core::v1::Pod;

const ANY: &str = "0.0.0.0";

/// Rules out nodes where a wanted port is taken.
pub(super) fn filter(pod: &Pod, node: &NodeState) -> Reasons {
    let wanted = snapshot::host_ports(pod);
    let clashes = |(address, protocol, port): &(String, String, i32)| {
        node.ports.iter().any(|(other, other_protocol, other_port)| {
            port == other_port
                && protocol == other_protocol
                && (address == other || address == ANY || other == ANY)
        })
    };
    if wanted.iter().any(clashes) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    Reasons::new()
}
