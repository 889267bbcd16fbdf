//! A range of IPv4 addresses in CIDR notation, and which of them pods may have.
//!
//! The first address is the bridge's own; the network and the broadcast address are nobody's.

use anyhow::{Context, ensure};
use std::fmt;
use std::net::Ipv4Addr;

/// `10.42.0.0/24`. The host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// Reads `ADDRESS/PREFIX`; host bits must be zero, so that a typing mistake does not move a network.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (address, prefix) =
            text.split_once('/').with_context(|| format!("invalid CIDR address: {text}"))?;
        let network: Ipv4Addr =
            address.parse().with_context(|| format!("invalid IPv4 CIDR address: {text}"))?;
        let prefix: u8 = prefix.parse().with_context(|| format!("invalid CIDR address: {text}"))?;
        ensure!(prefix <= 32, "invalid CIDR address: {text}: the prefix is longer than 32 bits");
        let cidr = Self { network, prefix };
        ensure!(u32::from(network) & !cidr.mask() == 0, "invalid CIDR address: {text}: host bits are set");
        Ok(cidr)
    }

    /// The range of a pod network: it must have room for a gateway and at least one pod.
    pub fn parse_pod_range(text: &str) -> anyhow::Result<Self> {
        let cidr = Self::parse(text)?;
        ensure!((8..=30).contains(&cidr.prefix), "pod CIDR {text}: the prefix must be from 8 to 30 bits");
        Ok(cidr)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Number of bits that all addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The address with all host bits zero.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The bridge's address: where pods send everything, and where the cluster's DNS answers.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | 1)
    }

    /// Whether the address belongs to this range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.network)
    }

    /// Whether a pod may have the address: neither the bridge's own nor one that is nobody's.
    pub fn is_for_pods(self, address: Ipv4Addr) -> bool {
        let broadcast = u32::from(self.network) | !self.mask();
        let place = u32::from(address);
        self.contains(address) && place > u32::from(self.gateway()) && place != broadcast
    }

    /// Whether some address belongs to both.
    pub fn meets(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// All addresses for pods, starting behind `last` and going round, so that an address rests before it comes back.
    pub fn pods_after(self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.network).saturating_add(2);
        let end = u32::from(self.network) | !self.mask();
        let start = last.map_or(first, |last| u32::from(last).saturating_add(1)).clamp(first, end);
        (start..end).chain(first..start).map(Ipv4Addr::from)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        assert_eq!(Cidr::parse("10.42.3.0/24").unwrap().to_string(), "10.42.3.0/24");
        assert_eq!(Cidr::parse("10.42.3.0/24").unwrap().gateway(), Ipv4Addr::new(10, 42, 3, 1));
        for bad in ["", "10.42.0.0", "10.42.0.0/33", "10.42.0.1/24", "a/24", "fd00::/64", "10.0.0.0/-1"] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
        for bad in ["10.42.0.0/31", "10.0.0.0/7"] {
            assert!(Cidr::parse_pod_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slash_23_has_509_pods() {
        let cidr = Cidr::parse("10.42.2.0/23").unwrap();
        let all: Vec<_> = cidr.pods_after(None).collect();
        assert_eq!(all.len(), 509);
        assert_eq!(all[0], Ipv4Addr::new(10, 42, 2, 2));
        assert_eq!(all[508], Ipv4Addr::new(10, 42, 3, 254));
    }

    proptest! {
        #[test]
        fn every_pod_address_comes_once_wherever_we_start(prefix in 20u8..=30, bits: u32, last: u32) {
            let mask = u32::MAX << (32 - u32::from(prefix));
            let cidr = Cidr::parse(&format!("{}/{prefix}", Ipv4Addr::from(bits & mask))).unwrap();
            let mut all: Vec<_> = cidr.pods_after(Some(Ipv4Addr::from(last))).collect();
            prop_assert_eq!(all.len(), (1usize << (32 - prefix)) - 3);
            prop_assert!(all.iter().all(|&address| cidr.contains(address) && address != cidr.gateway()));
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), (1usize << (32 - prefix)) - 3);
        }
    }
}
