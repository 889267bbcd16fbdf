//! Which events are new, which repeat an earlier one, and which are too many.

use super::{Occurrence, Severity};
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};

/// How many different events are remembered.
const REMEMBERED: usize = 4096;
/// An object may produce this many events at once, then one per `REFILL_SECONDS`.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Create,
    Repeat { name: String, count: i32 },
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    field_path: String,
    severity: Severity,
    reason: &'static str,
    message: String,
}

#[derive(Debug)]
struct Written {
    name: String,
    count: i32,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    updated: Timestamp,
}

/// Remembers what was written.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    written: HashMap<Key, Written>,
    order: VecDeque<Key>,
    /// By the object's uid.
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    pub(super) fn judge(&mut self, occurrence: &Occurrence) -> Verdict {
        if !self.take_token(occurrence) {
            return Verdict::Drop;
        }
        match self.written.get_mut(&key(occurrence)) {
            Some(written) => {
                written.count += 1;
                Verdict::Repeat { name: written.name.clone(), count: written.count }
            }
            None => Verdict::Create,
        }
    }

    pub(super) fn created(&mut self, occurrence: &Occurrence, name: String) {
        let key = key(occurrence);
        if self.written.insert(key.clone(), Written { name, count: 1 }).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.written.remove(&oldest);
        }
    }

    fn take_token(&mut self, occurrence: &Occurrence) -> bool {
        let now = occurrence.at;
        if self.buckets.len() > REMEMBERED {
            self.buckets.retain(|_, bucket| seconds(bucket.updated, now) < BURST * REFILL_SECONDS);
        }
        let uid = occurrence.object.uid.clone().unwrap_or_default();
        let bucket = self.buckets.entry(uid).or_insert(Bucket { tokens: BURST, updated: now });
        bucket.tokens = (bucket.tokens + seconds(bucket.updated, now) / REFILL_SECONDS).min(BURST);
        bucket.updated = now;
        let enough = bucket.tokens >= 1.0;
        if enough {
            bucket.tokens -= 1.0;
        }
        enough
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

fn key(occurrence: &Occurrence) -> Key {
    Key {
        uid: occurrence.object.uid.clone().unwrap_or_default(),
        field_path: occurrence.object.field_path.clone().unwrap_or_default(),
        severity: occurrence.severity,
        reason: occurrence.reason,
        message: occurrence.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn occurrence(message: &str, at: i64) -> Occurrence {
        Occurrence {
            object: ObjectReference { uid: Some("u".into()), ..Default::default() },
            severity: Severity::Normal,
            reason: "R",
            message: message.into(),
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    #[test]
    fn repetitions_are_counted() {
        let mut correlator = Correlator::default();
        assert_eq!(correlator.judge(&occurrence("a", 0)), Verdict::Create);
        correlator.created(&occurrence("a", 0), "e".into());
        assert_eq!(correlator.judge(&occurrence("a", 1)), Verdict::Repeat { name: "e".into(), count: 2 });
        assert_eq!(correlator.judge(&occurrence("b", 1)), Verdict::Create);
    }

    #[test]
    fn a_flood_is_cut_to_its_burst() {
        let mut correlator = Correlator::default();
        let kept = (0..100).filter(|_| correlator.judge(&occurrence("a", 0)) != Verdict::Drop).count();
        assert_eq!(kept, 25);
        assert_ne!(correlator.judge(&occurrence("a", 301)), Verdict::Drop);
    }
}
