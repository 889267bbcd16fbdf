//! Waiting on a condition with a deadline: the one place in the tests that polls.

use std::future::Future;
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

/// The same where the probe waits for an answer itself.
///
/// # Panics
/// As `eventually`.
pub async fn answers<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(last) if Instant::now() >= end => panic!("{what}: not within {deadline:?}; last: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
