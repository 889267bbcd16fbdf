//! Waiting on a condition with a deadline: the one place in the tests that polls.

use std::time::{Duration, Instant};

/// Calls `probe` until it answers `Some`, at most for `deadline`.
///
/// # Panics
/// When the deadline passes, with `what` and the last thing `probe` said.
pub fn eventually<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if Instant::now() >= end => panic!("{what}: not within {deadline:?}; last: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
