//! Links, addresses and routes of the built-in network, each brought to its wanted state by netlink.
//!
//! Every pod has a /32 address and one route, to the bridge's address: all its traffic passes the host's IP layer,
//! also to its neighbours on the bridge. So address translation works in both directions whether or not the kernel
//! runs netfilter for bridged frames (`br_netfilter`). Every function is idempotent: it may run again after a crash
//! between any two of its steps.

use super::addresses;
use super::cidr::Cidr;
use super::netlink::Netlink;
use super::pod_range::Second;
use super::second_family;
use anyhow::Context;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

/// The loopback link has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// Name of a pod's only link, as everyone expects it.
pub(crate) const POD_LINK: &str = "eth0";

/// What the bridge should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Own addresses, with the length of their prefix.
    pub(crate) addresses: BTreeSet<(Ipv4Addr, u8)>,
    /// The same in IPv6; nothing of IPv6 is touched where there are none.
    pub(crate) second_addresses: BTreeSet<(Ipv6Addr, u8)>,
    /// Service addresses are routed here, so that host processes reach them without a default route, and a
    /// service's packet never leaves by the uplink.
    pub(crate) services: Option<Cidr>,
}

/// One pod's link.
#[derive(Debug, Clone)]
pub(crate) struct PodLink {
    /// Name of the host's end.
    pub(crate) host_end: String,
    /// Name of the other end.
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) hardware: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) second: Option<Second>,
    /// All that the link leads to, where it is not the way to everything.
    pub(crate) range: Option<Cidr>,
}

/// The hardware address that belongs to an IPv4 address: nobody's ARP cache is ever stale when an address is
/// reused, and the bridge's does not change with its ports (its default is the lowest of theirs).
pub fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// Index of the link, if it exists.
pub(crate) fn index_of(netlink: &mut Netlink, name: &str) -> io::Result<Option<u32>> {
    Ok(find(netlink, name)?.map(|link| link.header.index))
}

/// What somebody has written on the link, if it exists.
pub(crate) fn alias_of(netlink: &mut Netlink, name: &str) -> io::Result<Option<String>> {
    let attributes = find(netlink, name)?.map(|link| link.attributes).unwrap_or_default();
    Ok(attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(text) => Some(text),
        _ => None,
    }))
}

fn find(netlink: &mut Netlink, name: &str) -> io::Result<Option<LinkMessage>> {
    let question = LinkUnspec::new_with_name(name).build();
    match netlink.get(RouteNetlinkMessage::GetLink(question)) {
        Ok(answers) => Ok(links(answers).next()),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn links(answers: Vec<RouteNetlinkMessage>) -> impl Iterator<Item = LinkMessage> {
    answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    })
}

/// Makes the bridge, or repairs it. Answers its index.
pub(crate) fn ensure_bridge(netlink: &mut Netlink, bridge: &Bridge) -> anyhow::Result<u32> {
    let index =
        match index_of(netlink, &bridge.name).with_context(|| format!("look up link {}", bridge.name))? {
            Some(index) => index,
            None => create_bridge(netlink, bridge)?,
        };
    let up = LinkMessageBuilder::<LinkUnspec>::default().index(index).mtu(bridge.mtu).up().build();
    netlink
        .change(RouteNetlinkMessage::SetLink(up), 0)
        .with_context(|| format!("set up bridge {}", bridge.name))?;
    addresses::set(netlink, index, &bridge.addresses)
        .with_context(|| format!("set the addresses of bridge {}", bridge.name))?;
    if !bridge.second_addresses.is_empty() {
        second_family::forward(&bridge.name)?;
        addresses::set(netlink, index, &bridge.second_addresses)
            .with_context(|| format!("set the IPv6 addresses of bridge {}", bridge.name))?;
    }
    if let Some(services) = bridge.services {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(services.network(), services.prefix())
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        netlink
            .change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .with_context(|| format!("route {services} to bridge {}", bridge.name))?;
    }
    Ok(index)
}

fn create_bridge(netlink: &mut Netlink, bridge: &Bridge) -> anyhow::Result<u32> {
    let own = bridge.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| *address);
    let link = LinkBridge::new(&bridge.name).address(hardware_address(own).to_vec()).mtu(bridge.mtu).build();
    match netlink.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL) {
        // Another process of ours was faster.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
        other => other.with_context(|| format!("create bridge {}", bridge.name))?,
    }
    index_of(netlink, &bridge.name)?.with_context(|| format!("bridge {} vanished", bridge.name))
}

/// Makes the pod's veth pair: the host's end is a port of the bridge, the other end appears in `netns`.
pub(crate) fn attach(netlink: &mut Netlink, bridge: u32, pod: &PodLink, netns: &File) -> anyhow::Result<()> {
    match create_pair(netlink, bridge, pod, netns) {
        // Made before.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
        other => other.with_context(|| format!("create veth pair {} and {}", pod.host_end, pod.name))?,
    }
    // A frame for the pod's own service address may have to leave by the port it came from (br_netfilter).
    let hairpin = LinkMessageBuilder::<LinkBridgePort>::default().name(pod.host_end.clone()).hairpin(true);
    netlink
        .change(RouteNetlinkMessage::NewLink(hairpin.build()), 0)
        .with_context(|| format!("set hairpin mode of {}", pod.host_end))
}

/// The host's end is born up; the pod's can't be (the kernel makes it first, and an end without a peer cannot open).
fn create_pair(netlink: &mut Netlink, bridge: u32, pod: &PodLink, netns: &File) -> io::Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(&pod.name)
        .address(pod.hardware.to_vec())
        .mtu(pod.mtu)
        .setns_by_fd(netns.as_raw_fd())
        .build();
    let pair = LinkVeth::new(&pod.host_end, &pod.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(pod.mtu)
        .controller(bridge)
        .up()
        .build();
    netlink.change(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL)
}

/// Sets up the loopback link; runs inside the pod's namespace.
pub(crate) fn loopback_up() -> anyhow::Result<()> {
    set_up_loopback(&mut Netlink::open().context("open a netlink socket in the pod")?)
}

fn set_up_loopback(netlink: &mut Netlink) -> anyhow::Result<()> {
    let up = LinkMessageBuilder::<LinkUnspec>::default().index(LOOPBACK).up().build();
    netlink.change(RouteNetlinkMessage::SetLink(up), 0).context("set up the pod's loopback")
}

/// Configures loopback, address and routes; runs inside the pod's namespace.
pub(crate) fn configure_pod(pod: &PodLink) -> anyhow::Result<()> {
    let mut netlink = Netlink::open().context("open a netlink socket in the pod")?;
    set_up_loopback(&mut netlink)?;
    let index = netlink.index(&pod.name).with_context(|| format!("the pod's {}", pod.name))?;
    let up = LinkMessageBuilder::<LinkUnspec>::default().index(index).up().build();
    netlink
        .change(RouteNetlinkMessage::SetLink(up), 0)
        .with_context(|| format!("set up the pod's {}", pod.name))?;
    addresses::set(&mut netlink, index, &BTreeSet::from([(pod.address, 32)]))
        .with_context(|| format!("give {} to the pod", pod.address))?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(pod.gateway, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    let beyond = RouteMessageBuilder::<Ipv4Addr>::new().gateway(pod.gateway).output_interface(index);
    let beyond = match pod.range {
        None => beyond.build(),
        Some(range) => beyond.destination_prefix(range.network(), range.prefix()).build(),
    };
    for route in [to_gateway, beyond] {
        netlink
            .change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .context("add the pod's routes")?;
    }
    let Some(second) = pod.second else { return Ok(()) };
    second_family::configure_pod(&mut netlink, index, &pod.name, (&second, pod.range.is_none()))
}

/// Deletes a link; a missing one is fine. Deleting one end of a veth pair deletes both.
pub(crate) fn delete(netlink: &mut Netlink, name: &str) -> anyhow::Result<()> {
    let link = LinkUnspec::new_with_name(name).build();
    match netlink.change(RouteNetlinkMessage::DelLink(link), 0) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(()),
        other => other.with_context(|| format!("delete link {name}")),
    }
}

/// Names of the links that are ports of a bridge.
pub(crate) fn ports_of(netlink: &mut Netlink, bridge: u32) -> io::Result<Vec<String>> {
    let answers = netlink.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let ports = links(answers).filter(|link| link.attributes.contains(&LinkAttribute::Controller(bridge)));
    Ok(ports.filter_map(|link| name_of(&link)).collect())
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// The MTU of the link that carries the default route, if there is one.
pub(crate) fn uplink_mtu(netlink: &mut Netlink) -> io::Result<Option<u32>> {
    let mut question = RouteMessageBuilder::<Ipv4Addr>::new().build();
    question.header.address_family = AddressFamily::Inet;
    let answers = netlink.list(RouteNetlinkMessage::GetRoute(question))?;
    let uplink = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) if route.header.destination_prefix_length == 0 => {
            route.attributes.into_iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(index),
                _ => None,
            })
        }
        _ => None,
    });
    let Some(uplink) = uplink else { return Ok(None) };
    let link = netlink.get(RouteNetlinkMessage::GetLink(LinkUnspec::new_with_index(uplink).build()))?;
    Ok(links(link).flat_map(|link| link.attributes).find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(mtu),
        _ => None,
    }))
}
