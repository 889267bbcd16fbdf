//! The addresses of a link, in either family, brought to what they should be by netlink.
//!
//! Idempotent: what is there already stays untouched, so that no connection through it breaks. IPv6 addresses that the
//! kernel gives each link by itself (link-local) are its own affair. Ours need no detection of duplicates (the ledger
//! knows that there are none) and are of use at once.

use super::netlink::Netlink;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What differs between the families.
pub(crate) trait Address: Copy + Ord {
    /// Asks for the addresses of all links.
    fn question() -> AddressMessage;

    /// Names this address of the link `index`.
    fn message(self, index: u32, prefix: u8) -> AddressMessage;

    /// The address that an attribute tells, if it is ours to change.
    fn told_by(attribute: &AddressAttribute) -> Option<Self>;
}

impl Address for Ipv4Addr {
    fn question() -> AddressMessage {
        AddressMessageBuilder::<Self>::new().build()
    }

    fn message(self, index: u32, prefix: u8) -> AddressMessage {
        AddressMessageBuilder::<Self>::new().index(index).address(self, prefix).build()
    }

    fn told_by(attribute: &AddressAttribute) -> Option<Self> {
        match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        }
    }
}

impl Address for Ipv6Addr {
    fn question() -> AddressMessage {
        AddressMessageBuilder::<Self>::new().build()
    }

    fn message(self, index: u32, prefix: u8) -> AddressMessage {
        let mut message = AddressMessageBuilder::<Self>::new().index(index).address(self, prefix).build();
        message.header.flags |= AddressHeaderFlags::Nodad;
        message
    }

    fn told_by(attribute: &AddressAttribute) -> Option<Self> {
        match attribute {
            AddressAttribute::Address(IpAddr::V6(address)) if !address.is_unicast_link_local() => {
                Some(*address)
            }
            _ => None,
        }
    }
}

/// Adds the addresses that are missing and removes those of the same family that are not wanted.
pub(crate) fn set<A: Address>(
    netlink: &mut Netlink,
    index: u32,
    wanted: &BTreeSet<(A, u8)>,
) -> io::Result<()> {
    let present = present(netlink, index)?;
    for &(address, prefix) in wanted.difference(&present) {
        let message = RouteNetlinkMessage::NewAddress(address.message(index, prefix));
        netlink.change(message, NLM_F_CREATE | NLM_F_REPLACE)?;
    }
    for &(address, prefix) in present.difference(wanted) {
        netlink.change(RouteNetlinkMessage::DelAddress(address.message(index, prefix)), 0)?;
    }
    Ok(())
}

fn present<A: Address>(netlink: &mut Netlink, index: u32) -> io::Result<BTreeSet<(A, u8)>> {
    let mut found = BTreeSet::new();
    for answer in netlink.list(RouteNetlinkMessage::GetAddress(A::question()))? {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        if message.header.index == index {
            let address = message.attributes.iter().find_map(A::told_by);
            found.extend(address.map(|address| (address, message.header.prefix_len)));
        }
    }
    Ok(found)
}
