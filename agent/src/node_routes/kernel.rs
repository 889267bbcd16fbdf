//! The routes that the kernel has, and making them those that are wanted. Ours bear a mark.

use super::Routes;
use super::family::Range;
use crate::engine::network::netlink::Netlink;
use anyhow::Context;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rustix::io::Errno;

/// The mark of our routes (`proto 75` in `ip route`).
const MARK: RouteProtocol = RouteProtocol::Other(75);

/// Adds and replaces what is wanted, and removes what bears our mark and is not; goes on after errors. Blocks.
pub(super) fn write<R: Range>(wanted: &Routes<R>, cluster: R) -> anyhow::Result<()> {
    let mut netlink = Netlink::open().context("open a netlink socket")?;
    let mut errors = Vec::new();
    let present = present(&mut netlink, cluster)?;
    for (range, gateway) in wanted.iter().filter(|(range, gateway)| present.get(*range) != Some(*gateway)) {
        let route = RouteNetlinkMessage::NewRoute(message(*range, *gateway));
        if let Err(error) = netlink.change(route, NLM_F_CREATE | NLM_F_REPLACE) {
            errors.push(match Errno::from_io_error(&error) {
                Some(Errno::NETUNREACH | Errno::HOSTUNREACH) => {
                    format!("{range}: the node {gateway} is not on a link of this one")
                }
                _ => format!("{range} via {gateway}: {error}"),
            });
        }
    }
    for (range, gateway) in present.iter().filter(|(range, _)| !wanted.contains_key(*range)) {
        let route = RouteNetlinkMessage::DelRoute(message(*range, *gateway));
        match netlink.change(route, 0) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::SRCH) => {
                errors.push(format!("{range}: {error}"));
            }
            _ => {}
        }
    }
    anyhow::ensure!(errors.is_empty(), "routes to the pods of other nodes: {}", errors.join("; "));
    Ok(())
}

fn message<R: Range>(range: R, gateway: R::Address) -> RouteMessage {
    let mut route = range.route(gateway);
    route.header.protocol = MARK;
    route
}

/// Our routes as the kernel has them; those of another agent's cluster are not ours.
fn present<R: Range>(netlink: &mut Netlink, cluster: R) -> anyhow::Result<Routes<R>> {
    let mut question = R::any_route();
    question.header.address_family = R::FAMILY;
    let answers = netlink.list(RouteNetlinkMessage::GetRoute(question)).context("list routes")?;
    let ours = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) if route.header.protocol == MARK => read(&route),
        _ => None,
    });
    Ok(ours.filter(|(range, _): &(R, R::Address)| cluster.covers(range.network())).collect())
}

fn read<R: Range>(route: &RouteMessage) -> Option<(R, R::Address)> {
    let address = |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| {
        route.attributes.iter().find_map(wanted).and_then(R::address)
    };
    let network = address(|attribute| match attribute {
        RouteAttribute::Destination(address) => Some(address),
        _ => None,
    })?;
    let gateway = address(|attribute| match attribute {
        RouteAttribute::Gateway(address) => Some(address),
        _ => None,
    })?;
    let range = R::read(&format!("{network}/{}", route.header.destination_prefix_length))?;
    Some((range, gateway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::network::cidr::Cidr;
    use crate::engine::network::pod_range::Cidr6;

    #[test]
    fn what_is_written_can_be_read() {
        let first = (Cidr::parse("10.42.1.0/24").unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(read(&message(first.0, first.1)), Some(first));
        let second = (Cidr6::parse("fd00:42:0:1::/64").unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(read(&message(second.0, second.1)), Some(second));
    }
}
