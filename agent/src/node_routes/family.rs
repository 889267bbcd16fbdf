//! What the two families of addresses have in common, as far as routes need it.

use crate::engine::network::cidr::Cidr;
use crate::engine::network::pod_range::Cidr6;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteMessage};
use std::fmt::{Debug, Display};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses of one family.
pub(super) trait Range: Copy + Ord + Debug + Display {
    /// One of its addresses.
    type Address: Copy + Eq + Debug + Display + FromStr;

    /// The family as the kernel names it.
    const FAMILY: AddressFamily;

    fn read(text: &str) -> Option<Self>;
    fn network(self) -> Self::Address;
    fn length(self) -> u8;
    fn covers(self, address: Self::Address) -> bool;
    /// A route to the range by way of a gateway.
    fn route(self, gateway: Self::Address) -> RouteMessage;
    /// A route that asks for all of the family.
    fn any_route() -> RouteMessage;
    fn address(found: &RouteAddress) -> Option<Self::Address>;
}

impl Range for Cidr {
    type Address = Ipv4Addr;

    const FAMILY: AddressFamily = AddressFamily::Inet;

    fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn network(self) -> Ipv4Addr {
        Self::network(self)
    }

    fn length(self) -> u8 {
        self.prefix()
    }

    fn covers(self, address: Ipv4Addr) -> bool {
        self.contains(address)
    }

    fn route(self, gateway: Ipv4Addr) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(self.network(), self.prefix());
        route.gateway(gateway).build()
    }

    fn any_route() -> RouteMessage {
        RouteMessageBuilder::<Ipv4Addr>::new().build()
    }

    fn address(found: &RouteAddress) -> Option<Ipv4Addr> {
        match found {
            RouteAddress::Inet(address) => Some(*address),
            _ => None,
        }
    }
}

impl Range for Cidr6 {
    type Address = Ipv6Addr;

    const FAMILY: AddressFamily = AddressFamily::Inet6;

    fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn network(self) -> Ipv6Addr {
        Self::network(self)
    }

    fn length(self) -> u8 {
        self.prefix()
    }

    fn covers(self, address: Ipv6Addr) -> bool {
        self.contains(address)
    }

    fn route(self, gateway: Ipv6Addr) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(self.network(), self.prefix());
        route.gateway(gateway).build()
    }

    fn any_route() -> RouteMessage {
        RouteMessageBuilder::<Ipv6Addr>::new().build()
    }

    fn address(found: &RouteAddress) -> Option<Ipv6Addr> {
        match found {
            RouteAddress::Inet6(address) => Some(*address),
            _ => None,
        }
    }
}
