//! A range of IPv4 addresses in CIDR notation. Which of them pods may have is decided by `pool`.

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

    /// The address with all host bits set.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !self.mask())
    }

    /// Whether all addresses of the other belong to this range.
    pub fn holds(self, other: Self) -> bool {
        self.contains(other.network) && self.prefix <= other.prefix
    }

    /// Whether some address belongs to both.
    pub fn meets(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// All addresses, starting behind `last` and going round, so that an address rests before it comes back.
    pub(crate) fn after(self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let (first, end) = (u32::from(self.network), u32::from(self.broadcast()));
        let start = last.map_or(first, |last| u32::from(last).saturating_add(1));
        let start = if (first..=end).contains(&start) { start } else { first };
        (start..=end).chain(first..start).map(Ipv4Addr::from)
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
    fn a_slash_23_is_gone_round() {
        let cidr = Cidr::parse("10.42.2.0/23").unwrap();
        for last in [None, Some(Ipv4Addr::new(10, 42, 2, 7)), Some(Ipv4Addr::new(10, 42, 3, 255))] {
            let all: Vec<_> = cidr.after(last).collect();
            assert_eq!(all.len(), 512);
            assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 512);
        }
        assert_eq!(cidr.after(Some(Ipv4Addr::new(10, 42, 2, 7))).next(), Some(Ipv4Addr::new(10, 42, 2, 8)));
        assert!(
            cidr.holds(Cidr::parse("10.42.3.0/24").unwrap())
                && !cidr.holds(Cidr::parse("10.42.0.0/16").unwrap())
        );
    }
}
