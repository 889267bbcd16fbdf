//! How often and how patiently a registry is asked again.

use crate::error::{Error, ErrorKind};
use std::time::Duration;

/// Limits of one operation against a registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Attempts without any progress before giving up.
    pub(crate) attempts: u32,
    /// Pause after the first failure; doubled after each further one.
    pub(crate) pause: Duration,
    /// No pause is longer, whatever the registry asks for.
    pub(crate) longest_pause: Duration,
    /// To connect.
    pub(crate) connect: Duration,
    /// From the request to the response's head.
    pub(crate) head: Duration,
    /// Between two pieces of a body.
    pub(crate) idle: Duration,
    /// A body must bring `slowest` bytes in every such window: a server that drips one byte now and then is stalled.
    pub(crate) window: Duration,
    pub(crate) slowest: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            window: Duration::from_secs(60),
            slowest: 16 << 10,
        }
    }
}

/// Counts the attempts of one operation.
#[derive(Debug)]
pub(crate) struct Attempts {
    patience: Patience,
    failed: u32,
}

impl Attempts {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// Something arrived: the count starts again.
    pub(crate) fn progress(&mut self) {
        self.failed = 0;
    }

    /// Pauses before the next attempt, or answers the error where there will be none. Only what the network or an
    /// overloaded server did is worth another try.
    pub(crate) async fn again(&mut self, error: Error, asked: Option<Duration>) -> Result<(), Error> {
        self.failed += 1;
        if error.kind() != ErrorKind::Unavailable || self.failed >= self.patience.attempts {
            return Err(error);
        }
        tokio::time::sleep(pause(&self.patience, self.failed, asked)).await;
        Ok(())
    }
}

/// Exponential, and at least what the server asked for, within reason.
fn pause(patience: &Patience, failed: u32, asked: Option<Duration>) -> Duration {
    let doubled =
        patience.pause.saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.max(asked.unwrap_or_default()).min(patience.longest_pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience::default();
        let asked = Some(Duration::from_secs(3));
        assert_eq!(pause(&patience, 1, None), Duration::from_millis(250));
        assert_eq!(pause(&patience, 3, None), Duration::from_secs(1));
        assert_eq!(pause(&patience, 60, None), patience.longest_pause);
        assert_eq!(pause(&patience, 1, asked), Duration::from_secs(3));
        assert_eq!(pause(&patience, 1, Some(Duration::from_secs(9999))), patience.longest_pause);
    }
}
