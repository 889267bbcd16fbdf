//! Who may use a load balancer's addresses: `spec.loadBalancerSourceRanges`, or the annotation that came before it.
//!
//! Pods and nodes of the cluster are clients like any other. Node ports and the service's other addresses are not bound by
//! it. Ranges of one family say nothing of the other, as for kube-proxy.

use super::ports::ServicePort;
use crate::nft::{Block, Family};
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeSet;
use std::net::IpAddr;

const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// The ranges of one family; absent where everybody may.
pub(crate) fn of(service: &Service, family: Family) -> Option<BTreeSet<Block>> {
    let field = service.spec.as_ref().and_then(|spec| spec.load_balancer_source_ranges.as_deref());
    let annotation = || service.metadata.annotations.as_ref()?.get(ANNOTATION);
    let texts: Vec<&str> = match field.filter(|ranges| !ranges.is_empty()) {
        Some(ranges) => ranges.iter().map(String::as_str).collect(),
        None => annotation()?.split(',').collect(),
    };
    let named: Vec<&str> = texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect();
    let all: BTreeSet<Block> = named.iter().filter_map(|text| Block::parse(text)).collect();
    let own: BTreeSet<Block> =
        all.iter().copied().filter(|block| Family::of(block.network) == family).collect();
    let is_free = named.is_empty() || own.iter().any(|block| block.prefix == 0);
    // What cannot be read lets nobody in.
    (!is_free && (!own.is_empty() || all.is_empty())).then_some(own)
}

/// The rules that a new connection to the load balancer's addresses has to pass. A node that may use them and has them
/// itself comes from them.
pub(crate) fn rules(port: &ServicePort, ranges: &BTreeSet<Block>, node: &[IpAddr]) -> Vec<String> {
    let header = port.family.header();
    let is_allowed = |address: &IpAddr| ranges.iter().any(|range| range.contains(*address));
    let own = port.balancer_ips.iter().filter(|_| node.iter().any(is_allowed));
    let sources = ranges.iter().map(Block::to_string).chain(own.map(IpAddr::to_string));
    let accept = sources.map(|source| format!("{header} saddr {source} accept"));
    accept.chain(["drop".to_owned()]).collect()
}
