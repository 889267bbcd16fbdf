//! The two families of addresses, in nftables' words. Each has sets and rules of its own.

use std::net::IpAddr;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Four,
    Six,
}

impl Family {
    pub(crate) const ALL: [Family; 2] = [Family::Four, Family::Six];

    pub(crate) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::Four } else { Family::Six }
    }

    /// The header.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Family::Four => "ip",
            Family::Six => "ip6",
        }
    }

    /// The type of an address.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Family::Four => "ipv4_addr",
            Family::Six => "ipv6_addr",
        }
    }

    /// What the names of its sets and chains end, or begin, with.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Family::Four => "",
            Family::Six => "6",
        }
    }
}
