//! How fast nodes of a zone may be taken for lost. Pods that leave one node load the others; were they to leave many at
//! once, a short outage would cost more than it has to.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By zone: when the last node was taken for lost.
#[derive(Debug, Default)]
pub(super) struct Pace {
    zones: Mutex<BTreeMap<(String, String), Timestamp>>,
}

impl Pace {
    /// How long the next node of a zone has to wait, whose nodes are lost `interval` apart; at zero it is its turn.
    pub(super) fn wait(
        &self,
        zone: (String, String),
        interval: SignedDuration,
        now: Timestamp,
    ) -> SignedDuration {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let since = zones.get(&zone).map(|last| now.duration_since(*last));
        let wait = since.map_or(SignedDuration::ZERO, |since| (interval - since).max(SignedDuration::ZERO));
        if wait.is_zero() {
            zones.insert(zone, now);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_after_another_in_each_zone() {
        let pace = Pace::default();
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let wait = |zone: &str, interval: i64, now: i64| {
            let zone = (String::new(), zone.to_owned());
            pace.wait(zone, SignedDuration::from_secs(interval), at(now)).as_secs()
        };
        assert_eq!((wait("a", 10, 0), wait("a", 10, 4), wait("b", 10, 4)), (0, 6, 0));
        assert_eq!((wait("a", 10, 10), wait("a", 10, 11)), (0, 9));
        assert_eq!(wait("a", 100, 20), 90, "an outage began");
    }
}
