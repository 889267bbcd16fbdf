//! The range of a node's pods: IPv4 always, IPv6 beside it where wanted (`10.42.0.0/24,fd00:42::/112`).
//!
//! A pod's second address is the first one's place in the other range (10.42.0.7 and fd00:42::7): whoever reads one
//! knows the other, and one ledger is enough.

use super::cidr::Cidr;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of IPv6 addresses. The host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cidr6 {
    network: Ipv6Addr,
    prefix: u8,
}

impl Cidr6 {
    /// Reads `ADDRESS/PREFIX`; host bits must be zero.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let invalid = || format!("invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').with_context(invalid)?;
        let network: Ipv6Addr =
            address.parse().with_context(|| format!("invalid IPv6 CIDR address: {text}"))?;
        let prefix: u8 = prefix.parse().with_context(invalid)?;
        ensure!(prefix <= 128, "invalid CIDR address: {text}: the prefix is longer than 128 bits");
        let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
        ensure!(u128::from(network) & host_bits == 0, "invalid CIDR address: {text}: host bits are set");
        Ok(Self { network, prefix })
    }

    /// The address with all host bits zero.
    pub(crate) fn network(self) -> Ipv6Addr {
        self.network
    }

    /// Number of bits that all addresses share.
    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address belongs to this range.
    pub(crate) fn contains(self, address: Ipv6Addr) -> bool {
        let host_bits = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        u128::from(address) & !host_bits == u128::from(self.network)
    }

    fn address(self, place: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.network) | u128::from(place))
    }
}

impl fmt::Display for Cidr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// A pod's IPv6 side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Second {
    pub(crate) address: Ipv6Addr,
    /// The bridge's address at that time, and the length of its prefix.
    pub(crate) gateway: Ipv6Addr,
    pub(crate) prefix: u8,
}

impl Second {
    /// The first address of its range.
    pub(crate) fn network(self) -> Ipv6Addr {
        let host_bits = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        Ipv6Addr::from(u128::from(self.gateway) & !host_bits)
    }
}

/// Where pods get their addresses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRange {
    pub(crate) first: Cidr,
    pub(crate) second: Option<Cidr6>,
}

impl PodRange {
    /// Reads one range or two, in either order, as a kubelet gives them.
    ///
    /// # Errors
    /// For what is no range, and for a second one with less room than the first.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts: Vec<&str> = text.split(',').map(str::trim).collect();
        parts.sort_by_key(|part| part.contains(':'));
        let (first, second) = match parts.as_slice() {
            [first] => (*first, None),
            [first, second] => (*first, Some(*second)),
            _ => anyhow::bail!("pod CIDR {text}: one IPv4 range, or one and an IPv6 range"),
        };
        let first = Cidr::parse_pod_range(first)?;
        let Some(second) = second else { return Ok(Self { first, second: None }) };
        let second = Cidr6::parse(second)?;
        let room = 128 - second.prefix >= 32 - first.prefix();
        ensure!(room, "pod CIDR {second} has fewer addresses than {first}");
        Ok(Self { first, second: Some(second) })
    }

    /// The IPv6 side of the pod that has this IPv4 address.
    pub(crate) fn second_of(self, address: Ipv4Addr) -> Option<Second> {
        let place = u32::from(address).wrapping_sub(u32::from(self.first.network()));
        self.second.map(|range| Second {
            address: range.address(place),
            gateway: range.address(1),
            prefix: range.prefix,
        })
    }

    /// The IPv6 side of a pod that wants this address; none where it is not of the range.
    pub(crate) fn second_at(self, address: Ipv6Addr) -> Option<Second> {
        let range = self.second.filter(|range| range.contains(address))?;
        Some(Second { address, gateway: range.address(1), prefix: range.prefix })
    }

    /// Whether the address belongs to one of the ranges.
    pub fn has(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.first.contains(address),
            IpAddr::V6(address) => self.second.is_some_and(|range| range.contains(address)),
        }
    }

    /// The bridge's own address with the length of its prefix.
    pub fn gateway(self) -> (Ipv4Addr, u8) {
        (self.first.gateway(), self.first.prefix())
    }

    /// The bridge's own IPv6 address with the length of its prefix.
    pub fn second_gateway(self) -> Option<(Ipv6Addr, u8)> {
        self.second.map(|range| (range.address(1), range.prefix))
    }
}

impl fmt::Display for PodRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.second {
            Some(second) => write!(f, "{},{second}", self.first),
            None => write!(f, "{}", self.first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ranges_are_read_in_either_order() {
        for text in ["10.42.0.0/24,fd00:42::/112", "fd00:42::/112, 10.42.0.0/24"] {
            let range = PodRange::parse(text).unwrap();
            assert_eq!(range.to_string(), "10.42.0.0/24,fd00:42::/112");
            assert_eq!(PodRange::parse(&range.to_string()).unwrap(), range);
        }
        assert_eq!(PodRange::parse("10.42.0.0/24").unwrap().to_string(), "10.42.0.0/24");
    }

    #[test]
    fn a_pod_has_the_same_place_in_both() {
        let range = PodRange::parse("10.42.2.0/23,fd00:42::/64").unwrap();
        let second = range.second_of(Ipv4Addr::new(10, 42, 3, 4)).unwrap();
        assert_eq!((second.address.to_string(), second.prefix), ("fd00:42::104".to_owned(), 64));
        assert_eq!(second.gateway.to_string(), "fd00:42::1");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            "",
            "fd00::/64",
            "10.0.0.0/24,10.1.0.0/24",
            "10.42.0.0/24,fd00::/125",
            "10.42.0.0/24,fd00::1/64",
            "10.42.0.0/24,fd00::/129",
            "10.42.0.0/24,fd00::/64,fd01::/64",
        ] {
            assert!(PodRange::parse(bad).is_err(), "{bad}");
        }
    }
}
