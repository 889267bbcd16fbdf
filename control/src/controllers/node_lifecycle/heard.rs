//! When nodes were last heard of, by our own clock: theirs may be wrong by more than the time after which a node counts as
//! silent. After a start of ours every node has that time to be heard of.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By node: the last sign of life as the node dates it, and when it was seen here.
#[derive(Debug, Default)]
pub(super) struct Heard {
    nodes: Mutex<BTreeMap<String, (Option<Timestamp>, Timestamp)>>,
}

impl Heard {
    /// How long nothing new has come from a node whose newest sign of life says this.
    pub(super) fn silent_for(&self, node: &str, sign: Option<Timestamp>, now: Timestamp) -> SignedDuration {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, seen) = nodes.entry(node.to_owned()).or_insert((sign, now));
        if *last != sign {
            (*last, *seen) = (sign, now);
        }
        now.duration_since(*seen)
    }

    /// The node is gone.
    pub(super) fn forget(&self, node: &str) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_that_something_came() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let heard = Heard::default();
        let silent = |sign: i64, now: i64| heard.silent_for("n", Some(at(sign)), at(now)).as_secs();
        // A clock that is an hour slow.
        assert_eq!((silent(-3600, 0), silent(-3600, 20)), (0, 20));
        assert_eq!((silent(-3580, 25), silent(-3580, 75)), (0, 50));
        heard.forget("n");
        assert_eq!(silent(-3580, 80), 0);
    }
}
