//! Flows that lead where nothing is any more: which they are, and their end.
//!
//! Rules decide about the first packet of a flow; conntrack sends the others after it. A TCP client notices that its
//! peer is gone and connects again. A UDP client that keeps its port does not: each packet renews the old entry, and
//! all of them go to an endpoint that is gone, or (where the flow began before there was one) to nobody. So whoever
//! changes rules says afterwards where the flows to each destination may lead, and what leads elsewhere is forgotten:
//! its next packet meets the rules again. Only UDP is treated; SCTP knows when its peer is gone.

mod kernel;

use crate::link_addresses;
use kernel::{Flow, Flows};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// For each destination where its flows may lead. An unspecified address (`0.0.0.0`, `::`) stands for all addresses of
/// this host of its family; an empty set means that no flow may go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ways(pub(crate) BTreeMap<SocketAddr, BTreeSet<SocketAddr>>);

impl Ways {
    /// A destination leads to these endpoints too.
    pub(crate) fn add(&mut self, destination: SocketAddr, endpoints: impl IntoIterator<Item = SocketAddr>) {
        self.0.entry(destination).or_default().extend(endpoints);
    }

    /// No flow to the destination may go on, unless something else is said of it.
    pub(crate) fn close(&mut self, destination: SocketAddr) {
        self.0.entry(destination).or_default();
    }

    /// The destinations whose flows may be wrong now that these ways are in force instead of `old`. Where endpoints
    /// only joined others, every flow is still right.
    pub(crate) fn changed_since(&self, old: &Self) -> Self {
        let mut changed = Self::default();
        for (destination, endpoints) in &self.0 {
            let before = old.0.get(destination);
            let only_grew = before.is_some_and(|before| !before.is_empty() && before.is_subset(endpoints));
            if !only_grew && before != Some(endpoints) {
                changed.add(*destination, endpoints.iter().copied());
            }
        }
        for destination in old.0.keys().filter(|destination| !self.0.contains_key(*destination)) {
            changed.close(*destination);
        }
        changed
    }

    fn is_stale(&self, flow: &Flow, host: &BTreeSet<IpAddr>) -> bool {
        let exact = self.0.get(&flow.destination);
        exact.or_else(|| self.of_host(flow, host)).is_some_and(|ways| !ways.contains(&flow.answers_from))
    }

    fn of_host(&self, flow: &Flow, host: &BTreeSet<IpAddr>) -> Option<&BTreeSet<SocketAddr>> {
        let address = flow.destination.ip();
        let is_ours = address.is_loopback() || host.contains(&address);
        self.0.get(&any(address, flow.destination.port())).filter(|_| is_ours)
    }
}

/// All addresses of this host, of the family of `like`.
pub(crate) fn any(like: IpAddr, port: u16) -> SocketAddr {
    let unspecified: IpAddr = match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(unspecified, port)
}

/// Ends the UDP flows of the calling thread's network namespace that lead elsewhere than they may, and says how many
/// they were; blocks. Nothing is asked of the kernel where there is nothing to say.
pub(crate) fn forget_stale(ways: &Ways) -> anyhow::Result<usize> {
    let mut forgotten = 0;
    for is_six in [false, true] {
        if ways.0.keys().any(|destination| destination.is_ipv6() == is_six) {
            forgotten += forget_stale_of(ways, is_six)?;
        }
    }
    Ok(forgotten)
}

fn forget_stale_of(ways: &Ways, is_six: bool) -> anyhow::Result<usize> {
    let host = link_addresses::all()?.into_iter().map(|(_, address)| address).collect();
    let mut flows = Flows::open()?;
    let stale: Vec<Flow> =
        flows.list(is_six)?.into_iter().filter(|flow| ways.is_stale(flow, &host)).collect();
    for flow in &stale {
        flows.delete(flow)?;
    }
    Ok(stale.len())
}

#[cfg(test)]
mod tests;
