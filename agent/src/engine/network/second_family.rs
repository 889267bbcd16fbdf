//! Links, addresses and routes of the pods' IPv6 side, beside what `links` does for IPv4.
//!
//! As there: an address of its own for each pod and one way out, to the bridge.

use super::addresses;
use super::netlink::Netlink;
use super::pod_range::Second;
use anyhow::Context;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteScope;
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// Settings of IPv6, one directory per link.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Address and routes; runs inside the pod's namespace.
pub(crate) fn configure_pod(
    netlink: &mut Netlink,
    index: u32,
    link: &str,
    (pod, way_out): (&Second, bool),
) -> anyhow::Result<()> {
    enable(link)?;
    addresses::set(netlink, index, &BTreeSet::from([(pod.address, 128)]))
        .with_context(|| format!("give {} to the pod", pod.address))?;
    let to_gateway = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(pod.gateway, 128)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    let beyond = RouteMessageBuilder::<Ipv6Addr>::new().gateway(pod.gateway).output_interface(index);
    let beyond = match way_out {
        true => beyond.build(),
        false => beyond.destination_prefix(pod.network(), pod.prefix).build(),
    };
    for route in [to_gateway, beyond] {
        netlink
            .change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .context("add the pod's IPv6 routes")?;
    }
    Ok(())
}

/// Makes the host a router of IPv6. A link that learns its routes from a router goes on doing so: otherwise the kernel
/// would take the host itself for the router there, and stop.
pub(crate) fn forward(bridge: &str) -> anyhow::Result<()> {
    enable(bridge)?;
    let all = Path::new(SETTINGS).join("all/forwarding");
    if read(&all)? == "1" {
        return Ok(());
    }
    for link in fs::read_dir(SETTINGS).with_context(|| format!("read {SETTINGS}"))? {
        let learns: PathBuf = link?.path().join("accept_ra");
        if read(&learns).is_ok_and(|value| value == "1") {
            set_to(&learns, "2")?;
        }
    }
    set_to(&all, "1")
}

/// Lets a link of this namespace speak IPv6.
pub(crate) fn enable(link: &str) -> anyhow::Result<()> {
    set_to(&Path::new(SETTINGS).join(link).join("disable_ipv6"), "0")
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Writes only what differs: `/proc/sys` is read-only in many containers.
fn set_to(path: &Path, value: &str) -> anyhow::Result<()> {
    if read(path)? == value {
        return Ok(());
    }
    fs::write(path, value).with_context(|| format!("write {value} to {}", path.display()))
}
