//! Which addresses and ports stand for which endpoints: Services and EndpointSlices joined, as data.
//!
//! Objects come from outside, so nothing in them is believed: what does not parse (an address, a port, a name that
//! would not be an nftables identifier) is left out, and never fails the services of others.

use super::nearness::Place;
use super::source_ranges;
use crate::nft::{Block, Family, protocol_of};
use k8s_openapi::api::core::v1::{Service, ServicePort as SpecPort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The label that ties a slice to its service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services that another proxy than the node's serves bear it, with its name.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Seconds that ClientIP affinity lasts where the service does not say.
const DEFAULT_AFFINITY: u32 = 10_800;

/// Address and port of one endpoint.
pub(crate) type Target = (IpAddr, u16);

/// As slices are told apart.
fn address_type(family: Family) -> &'static str {
    match family {
        Family::Four => "IPv4",
        Family::Six => "IPv6",
    }
}

/// One port of one service in one family, with all that leads to it and all that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// `NAMESPACE/NAME/PROTOCOL/PORTNAME`, unique in the cluster and family.
    pub(crate) id: String,
    pub(crate) family: Family,
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) cluster_ips: BTreeSet<IpAddr>,
    /// `externalIPs` and the addresses of the load balancer.
    pub(crate) external_ips: BTreeSet<IpAddr>,
    /// Those of the load balancer.
    pub(crate) balancer_ips: BTreeSet<IpAddr>,
    /// Who may use these; absent for everybody.
    pub(crate) sources: Option<BTreeSet<Block>>,
    pub(crate) node_port: Option<u16>,
    /// Seconds for which a client keeps its endpoint.
    pub(crate) affinity: Option<u32>,
    /// Endpoints for clients that use a cluster address.
    pub(crate) internal: BTreeSet<Target>,
    /// Endpoints wherever they are, where those must be on this node (`internalTrafficPolicy: Local`).
    pub(crate) cluster: Option<BTreeSet<Target>>,
    /// Endpoints for clients from outside where they must be on this node (`externalTrafficPolicy: Local`).
    pub(crate) local_only: Option<BTreeSet<Target>>,
    /// Of UDP: endpoints that flows may go on to, whatever the policies for new ones are.
    pub(crate) serving: BTreeSet<Target>,
}

impl ServicePort {
    /// Endpoints for whom no policy binds to this node.
    pub(crate) fn everywhere(&self) -> &BTreeSet<Target> {
        self.cluster.as_ref().unwrap_or(&self.internal)
    }

    /// All endpoints that rules may lead to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.internal.iter().chain(self.cluster.iter().flatten()).chain(self.local_only.iter().flatten())
    }
}

/// All service ports of the cluster, seen from a node.
pub(crate) fn ports(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    place: &Place,
) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let (Some(namespace), Some(name)) = (slice.metadata.namespace.as_deref(), name) {
            by_service.entry((namespace, name)).or_default().push(slice);
        }
    }
    let mut ports: Vec<ServicePort> = services
        .iter()
        .flat_map(|service| {
            let key = (service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
            let slices = by_service.get(&key).map_or(&[][..], Vec::as_slice);
            Some(Family::ALL.into_iter().flat_map(|family| ports_of(service, slices, family, place)))
        })
        .flatten()
        .collect();
    ports.sort_by(|a, b| (a.family, &a.id).cmp(&(b.family, &b.id)));
    ports
}

fn ports_of(service: &Service, slices: &[&EndpointSlice], family: Family, place: &Place) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let of_family = slices.iter().copied().filter(|slice| slice.address_type == address_type(family));
    let slices: &[&EndpointSlice] = &of_family.collect::<Vec<_>>();
    let cluster_ips = addresses(family, spec.cluster_ips.as_deref().unwrap_or(spec.cluster_ip.as_slice()));
    let is_anothers = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    if spec.type_.as_deref() == Some("ExternalName") || cluster_ips.is_empty() || is_anothers {
        return Vec::new();
    }
    let local_internal = spec.internal_traffic_policy.as_deref() == Some("Local");
    let local_external = spec.external_traffic_policy.as_deref() == Some("Local");
    let mut external_ips = addresses(family, spec.external_ips.as_deref().unwrap_or_default());
    let balancer_ips = load_balancer_addresses(family, service);
    external_ips.extend(&balancer_ips);
    let sources = source_ranges::of(service, family);
    let one = |port: &SpecPort| {
        let all = near_targets(slices, port, place);
        let local = || local_targets(slices, port, &place.node);
        let protocol = protocol_of(port.protocol.as_deref())?;
        Some(ServicePort {
            id: id_of(service, port)?,
            family,
            protocol,
            port: u16::try_from(port.port).ok()?,
            cluster_ips: cluster_ips.clone(),
            external_ips: external_ips.clone(),
            balancer_ips: balancer_ips.clone(),
            sources: sources.clone(),
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0),
            affinity: affinity(service),
            internal: if local_internal { local() } else { all.clone() },
            cluster: local_internal.then_some(all),
            local_only: local_external.then(local),
            serving: if protocol == "udp" { serving(slices, port) } else { BTreeSet::new() },
        })
    };
    spec.ports.iter().flatten().filter_map(one).collect()
}

fn addresses(family: Family, texts: &[String]) -> BTreeSet<IpAddr> {
    let parsed = texts.iter().filter_map(|text| text.parse().ok());
    parsed.filter(|&address| Family::of(address) == family).collect()
}

fn load_balancer_addresses(family: Family, service: &Service) -> BTreeSet<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_ref());
    // What reaches a balancer of the other mode comes to a node port, so it is none of ours.
    let virtual_ones = ingress.into_iter().flatten().filter(|one| one.ip_mode.as_deref() != Some("Proxy"));
    let parsed = virtual_ones.filter_map(|one| one.ip.as_ref()?.parse().ok());
    parsed.filter(|&address| Family::of(address) == family).collect()
}

fn affinity(service: &Service) -> Option<u32> {
    let spec = service.spec.as_ref().filter(|spec| spec.session_affinity.as_deref() == Some("ClientIP"))?;
    let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds =
        client.and_then(|client| client.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.filter(|&seconds| seconds > 0).unwrap_or(DEFAULT_AFFINITY))
}

fn id_of(service: &Service, port: &SpecPort) -> Option<String> {
    let plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let namespace = service.metadata.namespace.as_deref()?;
    let name = service.metadata.name.as_deref()?;
    let port_name = port.name.as_deref().unwrap_or_default();
    let valid = [namespace, name, port_name].iter().all(|text| plain(text) && text.len() <= 63);
    // Ports without a name are told apart by their number: a service with one unnamed port may change it.
    let last = if port_name.is_empty() { port.port.to_string() } else { port_name.to_owned() };
    valid.then(|| {
        format!("{namespace}/{name}/{}/{last}", protocol_of(port.protocol.as_deref()).unwrap_or("tcp"))
    })
}

/// The endpoints of a port, as near as the hints say.
fn near_targets(slices: &[&EndpointSlice], port: &SpecPort, place: &Place) -> BTreeSet<Target> {
    let ready: Vec<&Endpoint> = slices
        .iter()
        .filter(|slice| port_in(slice, port).is_some())
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| is_ready(endpoint))
        .collect();
    let nearness = place.nearness(&ready);
    targets(slices, port, |endpoint| !is_ready(endpoint) || place.admits(nearness, endpoint))
}

/// The endpoints of a port on this node, whatever the hints say.
fn local_targets(slices: &[&EndpointSlice], port: &SpecPort, node: &str) -> BTreeSet<Target> {
    targets(slices, port, |endpoint| endpoint.node_name.as_deref() == Some(node))
}

/// The endpoints of a port that may be chosen. Where none is ready, those that still serve while they terminate stand
/// in, so that the last pod of a rolling update finishes its work.
fn targets(
    slices: &[&EndpointSlice],
    port: &SpecPort,
    may_be: impl Fn(&Endpoint) -> bool,
) -> BTreeSet<Target> {
    let ready = targets_where(slices, port, |endpoint| may_be(endpoint) && is_ready(endpoint));
    if !ready.is_empty() {
        return ready;
    }
    targets_where(slices, port, |endpoint| may_be(endpoint) && serves_while_terminating(endpoint))
}

/// The endpoints of a port that answer, those that terminate too.
fn serving(slices: &[&EndpointSlice], port: &SpecPort) -> BTreeSet<Target> {
    targets_where(slices, port, |endpoint| is_ready(endpoint) || serves_while_terminating(endpoint))
}

fn targets_where(
    slices: &[&EndpointSlice],
    port: &SpecPort,
    condition: impl Fn(&Endpoint) -> bool,
) -> BTreeSet<Target> {
    let mut found = BTreeSet::new();
    for slice in slices {
        let Some(number) = port_in(slice, port) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| condition(endpoint)) {
            let addresses = endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
            // What the slice says of its addresses must be so: each goes into a rule of that family.
            let is_so = |address: &IpAddr| address_type(Family::of(*address)) == slice.address_type;
            found.extend(addresses.filter(is_so).map(|address| (address, number)));
        }
    }
    found
}

/// A slice names its ports as the service does; the number is the target's.
fn port_in(slice: &EndpointSlice, port: &SpecPort) -> Option<u16> {
    let wanted = (port.name.as_deref().unwrap_or_default(), protocol_of(port.protocol.as_deref()));
    let found = slice.ports.iter().flatten().find(|candidate| {
        (candidate.name.as_deref().unwrap_or_default(), protocol_of(candidate.protocol.as_deref())) == wanted
    })?;
    u16::try_from(found.port?).ok().filter(|&number| number != 0)
}

/// An unknown condition counts as ready.
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn serves_while_terminating(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
}
