//! Waiting on a condition with a deadline: the one place in these tests that polls.

use std::time::{Duration, Instant};

/// Waits at most a minute.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(60), what, condition);
}

/// Waits as long as something may take that is large.
pub(crate) fn within(longest: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + longest;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
