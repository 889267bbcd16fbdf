//! Exponential delay between attempts that keep failing: 10 s, doubled each time up to 300 s, forgotten after twice
//! that long without a failure. Container restarts and image pulls count separately.

use jiff::Timestamp;
use std::time::Duration;

/// First delay after a failure.
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay.
pub const MAX: Duration = Duration::from_secs(300);

/// The delay of one thing that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    delay: Duration,
    updated: Timestamp,
}

impl Backoff {
    /// The state after one more attempt at `now`, made from the state before it.
    pub fn after_attempt(previous: Option<Backoff>, now: Timestamp) -> Backoff {
        let delay = match previous {
            Some(previous) if !previous.expired(now) => (previous.delay * 2).min(MAX),
            _ => INITIAL,
        };
        Backoff { delay, updated: now }
    }

    /// How long one has to wait in all.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// When the next attempt may start, if that is later than `now`; the delay counts from `since`.
    pub fn blocked_until(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let until = plus(since, self.delay);
        (!self.expired(now) && until > now).then_some(until)
    }

    /// The same, counted from the last attempt.
    pub fn blocked_since_attempt(&self, now: Timestamp) -> Option<Timestamp> {
        self.blocked_until(self.updated, now)
    }

    fn expired(&self, now: Timestamp) -> bool {
        plus(self.updated, MAX * 2) < now
    }
}

/// `time + duration`, at most the end of time.
pub fn plus(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn doubles_to_five_minutes_and_forgets_after_ten() {
        let mut backoff = None;
        let mut now = 0;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            let next = Backoff::after_attempt(backoff, at(now));
            assert_eq!(next.delay(), Duration::from_secs(expected));
            assert_eq!(next.blocked_since_attempt(at(now + 1)), Some(plus(at(now), next.delay())));
            now += i64::try_from(expected).unwrap();
            assert_eq!(next.blocked_since_attempt(at(now)), None);
            backoff = Some(next);
        }
        assert_eq!(Backoff::after_attempt(backoff, at(now + 601)).delay(), INITIAL);
    }
}
