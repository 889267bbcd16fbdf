//! What a controller has written and not yet seen in its own copy: while anything is outstanding, counting pods
//! would count wrongly, and it would create or delete too many.

use super::informer::Key;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A write that is not seen for this long never will be (the watch was lost in between): go by the copy again.
const EXPIRY: Duration = Duration::from_secs(300);

struct Outstanding {
    creations: u32,
    deletions: HashSet<String>,
    since: Instant,
}

/// Outstanding writes by owner.
pub(crate) struct Expectations {
    by_owner: Mutex<HashMap<Key, Outstanding>>,
}

impl Expectations {
    /// Nothing outstanding.
    pub(crate) fn new() -> Self {
        Self { by_owner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Outstanding>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces writes before they are made, so that a fast watch cannot overtake.
    pub(crate) fn expect(&self, owner: &Key, creations: u32, deletions: impl IntoIterator<Item = String>) {
        let outstanding =
            Outstanding { creations, deletions: deletions.into_iter().collect(), since: Instant::now() };
        self.lock().insert(owner.clone(), outstanding);
    }

    /// A creation was seen, or failed.
    pub(crate) fn created(&self, owner: &Key) {
        if let Some(outstanding) = self.lock().get_mut(owner) {
            outstanding.creations = outstanding.creations.saturating_sub(1);
        }
    }

    /// A deletion (by uid) was seen, or failed.
    pub(crate) fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(outstanding) = self.lock().get_mut(owner) {
            outstanding.deletions.remove(uid);
        }
    }

    /// Whether the copy shows everything that was written.
    pub(crate) fn met(&self, owner: &Key) -> bool {
        let by_owner = self.lock();
        let Some(outstanding) = by_owner.get(owner) else { return true };
        (outstanding.creations == 0 && outstanding.deletions.is_empty())
            || outstanding.since.elapsed() > EXPIRY
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_outstanding_until_seen_or_expired() {
        let (expectations, owner) = (Expectations::new(), Key::new("default", "web"));
        assert!(expectations.met(&owner));
        expectations.expect(&owner, 1, ["uid".to_owned()]);
        expectations.created(&owner);
        assert!(!expectations.met(&owner));
        expectations.deleted(&owner, "uid");
        assert!(expectations.met(&owner));
        expectations.expect(&owner, 1, []);
        tokio::time::advance(EXPIRY + Duration::from_secs(1)).await;
        assert!(expectations.met(&owner));
    }
}
