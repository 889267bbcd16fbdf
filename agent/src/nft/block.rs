//! A range of addresses, as objects and nftables write it: `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block {
    pub(crate) network: IpAddr,
    pub(crate) prefix: u8,
}

impl Block {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::of(address.parse().ok()?, prefix.parse().ok()?)
    }

    /// Absent where the prefix is longer than an address.
    fn of(address: IpAddr, prefix: u8) -> Option<Self> {
        let network = match address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                (prefix <= 32).then(|| Ipv4Addr::from_bits(address.to_bits() & !host).into())
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                (prefix <= 128).then(|| Ipv6Addr::from_bits(address.to_bits() & !host).into())
            }
        };
        Some(Self { network: network?, prefix })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && Self::of(address, self.prefix) == Some(*self)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_without_its_host_bits() {
        for (text, network) in [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.1.2.3/32", Some("10.1.2.3/32")),
            ("10.1.2.3/0", Some("0.0.0.0/0")),
            ("fd00::7/64", Some("fd00::/64")),
            ("10.1.2.3/33", None),
            ("10.1.2.3", None),
            ("10.1.2/8", None),
        ] {
            assert_eq!(Block::parse(text).map(|block| block.to_string()).as_deref(), network, "{text}");
        }
        let holds =
            |block: &str, address: &str| Block::parse(block).unwrap().contains(address.parse().unwrap());
        assert!(
            holds("10.0.0.0/8", "10.255.0.1")
                && holds("0.0.0.0/0", "192.0.2.1")
                && holds("fd00::/8", "fd12::1")
        );
        assert!(!holds("10.0.0.0/8", "11.0.0.1") && !holds("0.0.0.0/0", "fd00::1"));
    }
}
