//! Which address a network gives next: a pure decision over its range, what of that is kept back, and what is in use.

use super::cidr::Cidr;
use super::pod_range::{PodRange, Second};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a network has to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) range: PodRange,
    /// The bridge's own.
    pub(crate) gateway: Ipv4Addr,
    /// Where it is looked for by itself; anything of the range may be asked for.
    pub(crate) within: Cidr,
    /// Nobody's.
    pub(crate) reserved: BTreeSet<IpAddr>,
}

/// Addresses that somebody has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used {
    pub(crate) first: BTreeSet<Ipv4Addr>,
    pub(crate) second: BTreeSet<Ipv6Addr>,
}

impl From<PodRange> for Pool {
    fn from(range: PodRange) -> Self {
        let reserved = BTreeSet::new();
        Self { range, gateway: range.first.gateway(), within: range.first, reserved }
    }
}

impl Pool {
    /// The addresses that were asked for, or the next free ones behind `last`.
    pub(crate) fn choose(
        &self,
        wanted: (Option<Ipv4Addr>, Option<Ipv6Addr>),
        last: Option<Ipv4Addr>,
        used: &Used,
    ) -> anyhow::Result<(Ipv4Addr, Option<Second>)> {
        let own_second = wanted.1.map(|address| self.second(address, used)).transpose()?;
        // A pod of an earlier range may have the same place in the IPv6 range, which stayed.
        let is_free = |address: Ipv4Addr| {
            let second = self.range.second_of(address).filter(|_| own_second.is_none());
            !used.first.contains(&address)
                && second
                    .is_none_or(|second| self.gives(second.address) && !used.second.contains(&second.address))
        };
        let address = match wanted.0 {
            None => self.within.after(last).find(|address| self.is_for_pods(*address) && is_free(*address)),
            Some(wanted) if !is_free(wanted) => bail!("Address already in use"),
            Some(wanted) => {
                ensure!(
                    self.is_for_pods(wanted),
                    "no configured subnet contains IP address {wanted} that a container may have"
                );
                Some(wanted)
            }
        };
        let Some(address) = address else {
            bail!("no free address in pod CIDR {} ({} in use)", self.range, used.first.len())
        };
        Ok((address, own_second.or_else(|| self.range.second_of(address))))
    }

    fn second(&self, address: Ipv6Addr, used: &Used) -> anyhow::Result<Second> {
        let found = self.range.second_at(address).filter(|second| second.gateway != address);
        let Some(second) = found.filter(|_| self.gives(address)) else {
            bail!("no configured subnet contains IP address {address} that a container may have")
        };
        ensure!(!used.second.contains(&address), "Address already in use");
        Ok(second)
    }

    /// Neither the bridge's own nor one that is nobody's.
    fn is_for_pods(&self, address: Ipv4Addr) -> bool {
        let range = self.range.first;
        range.contains(address)
            && ![range.network(), range.broadcast(), self.gateway].contains(&address)
            && self.gives(address)
    }

    fn gives(&self, address: impl Into<IpAddr>) -> bool {
        !self.reserved.contains(&address.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(text: &str) -> Pool {
        PodRange::parse(text).unwrap().into()
    }

    fn next(pool: &Pool, last: Option<&str>) -> String {
        let last = last.map(|text| text.parse().unwrap());
        pool.choose((None, None), last, &Used::default()).unwrap().0.to_string()
    }

    #[test]
    fn what_is_kept_back_is_nobodys() {
        let mut pool = pool("10.50.0.0/16,fd00::/64");
        pool.within = Cidr::parse("10.50.5.0/24").unwrap();
        pool.gateway = "10.50.5.1".parse().unwrap();
        pool.reserved = ["10.50.5.2", "fd00::503"].map(|text| text.parse().unwrap()).into();
        assert_eq!(next(&pool, None), "10.50.5.0");
        assert_eq!(next(&pool, Some("10.50.5.0")), "10.50.5.4");
        assert_eq!(next(&pool, Some("10.50.5.255")), "10.50.5.0");
        let asked = |first: &str| pool.choose((Some(first.parse().unwrap()), None), None, &Used::default());
        assert_eq!(asked("10.50.9.9").unwrap().0.to_string(), "10.50.9.9");
        for refused in ["10.50.0.0", "10.50.5.1", "10.50.5.2", "10.50.255.255", "10.51.0.9"] {
            assert!(asked(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_second_address_may_be_wanted() {
        let pool = pool("10.42.0.0/24,fd00::/64");
        let take = |second: &str, used: &Used| pool.choose((None, Some(second.parse().unwrap())), None, used);
        let (first, second) = take("fd00::99", &Used::default()).unwrap();
        assert_eq!(
            (first.to_string(), second.unwrap().address.to_string()),
            ("10.42.0.2".into(), "fd00::99".into())
        );
        let used = Used { second: ["fd00::99".parse().unwrap()].into(), ..Used::default() };
        assert_eq!(take("fd00::99", &used).unwrap_err().to_string(), "Address already in use");
        for outside in ["fd00::1", "fd01::4"] {
            assert!(take(outside, &used).is_err(), "{outside}");
        }
    }

    proptest! {
        #[test]
        fn every_address_comes_once_wherever_we_start(prefix in 20u8..=30, bits: u32, last: u32) {
            let mask = u32::MAX << (32 - u32::from(prefix));
            let pool = pool(&format!("{}/{prefix}", Ipv4Addr::from(bits & mask)));
            let given = pool.within.after(Some(Ipv4Addr::from(last))).filter(|address| pool.is_for_pods(*address));
            let mut all: Vec<_> = given.collect();
            prop_assert_eq!(all.len(), (1usize << (32 - prefix)) - 3);
            prop_assert!(all.iter().all(|&address| address != pool.gateway));
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), (1usize << (32 - prefix)) - 3);
        }
    }
}
