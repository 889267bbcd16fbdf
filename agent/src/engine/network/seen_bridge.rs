//! The bridge as it was just put right: while many pods come, the kernel has one after the other look at links, so nobody
//! looks again for a moment at what was right. A bridge that is gone, or another one, is seen all the same.

use super::links::Bridge;
use super::netlink::Netlink;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it is taken to be right.
const TRUSTED: Duration = Duration::from_secs(1);

/// Own addresses of the bridge with the length of their prefix, in each family.
pub(crate) type Gateways = (BTreeSet<(Ipv4Addr, u8)>, BTreeSet<(Ipv6Addr, u8)>);

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct SeenBridge(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    index: u32,
    bridge: Bridge,
}

impl SeenBridge {
    /// Index and MTU of the bridge, if it was right a moment ago, has these addresses, and is still there.
    pub(crate) fn still(&self, netlink: &mut Netlink, gateways: &Gateways) -> Option<(u32, u32)> {
        let seen = self.lock();
        let Seen { at, index, bridge } = seen.as_ref()?;
        let is_right = at.elapsed() < TRUSTED
            && (&bridge.addresses, &bridge.second_addresses) == (&gateways.0, &gateways.1)
            && netlink.index(&bridge.name).is_ok_and(|found| found == *index);
        is_right.then_some((*index, bridge.mtu))
    }

    /// It was put right.
    pub(crate) fn remember(&self, index: u32, bridge: Bridge) {
        *self.lock() = Some(Seen { at: Instant::now(), index, bridge });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
