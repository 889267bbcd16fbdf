//! Which events are new, which repeat an earlier one, and which are too many.

use super::{Occurrence, Severity};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet, VecDeque};

/// How many different events are remembered.
const REMEMBERED: usize = 4096;
/// An object may produce this many events at once, then one per `REFILL_SECONDS`.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// So many events that differ in their message only, within this time, become one.
const SIMILAR: usize = 10;
const SIMILAR_SECONDS: f64 = 600.0;
const COMBINED: &str = "(combined from similar events): ";

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

/// Messages of one object, reason and severity.
#[derive(Debug)]
struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
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
    /// By everything but the message.
    similar: HashMap<Key, Similar>,
    /// By the object's uid.
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    /// Judges an event; one of too many similar ones gets a message that says so.
    pub(super) fn judge(&mut self, occurrence: &mut Occurrence) -> Verdict {
        if !self.take_token(occurrence) {
            return Verdict::Drop;
        }
        if self.is_one_of_many(occurrence) {
            occurrence.message = format!("{COMBINED}{}", occurrence.message);
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

    fn is_one_of_many(&mut self, occurrence: &Occurrence) -> bool {
        let now = occurrence.at;
        let recent = |similar: &Similar| seconds(similar.last, now) < SIMILAR_SECONDS;
        self.similar.retain(|_, similar| recent(similar));
        if self.similar.len() > REMEMBERED {
            self.similar.clear();
        }
        let group = Key { message: String::new(), ..key(occurrence) };
        let similar =
            self.similar.entry(group).or_insert_with(|| Similar { messages: HashSet::new(), last: now });
        similar.last = now;
        if similar.messages.len() < SIMILAR {
            similar.messages.insert(occurrence.message.clone());
        }
        similar.messages.len() >= SIMILAR
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
        // All that are combined are one event, whose message is that of the last.
        message: if occurrence.message.starts_with(COMBINED) {
            COMBINED.to_string()
        } else {
            occurrence.message.clone()
        },
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
        assert_eq!(correlator.judge(&mut occurrence("a", 0)), Verdict::Create);
        correlator.created(&occurrence("a", 0), "e".into());
        assert_eq!(correlator.judge(&mut occurrence("a", 1)), Verdict::Repeat { name: "e".into(), count: 2 });
        assert_eq!(correlator.judge(&mut occurrence("b", 1)), Verdict::Create);
    }

    #[test]
    fn a_flood_is_cut_to_its_burst() {
        let mut correlator = Correlator::default();
        let kept = (0..100).filter(|_| correlator.judge(&mut occurrence("a", 0)) != Verdict::Drop).count();
        assert_eq!(kept, 25);
        assert_ne!(correlator.judge(&mut occurrence("a", 301)), Verdict::Drop);
    }

    #[test]
    fn many_that_differ_in_their_message_only_become_one() {
        let mut correlator = Correlator::default();
        let mut events: Vec<Occurrence> =
            (0..12).map(|number| occurrence(&format!("try {number}"), number)).collect();
        let mut verdicts = Vec::new();
        for event in &mut events {
            verdicts.push(correlator.judge(event));
            if verdicts.last() == Some(&Verdict::Create) {
                correlator.created(event, format!("e{}", verdicts.len()));
            }
        }
        assert!(verdicts[..10].iter().all(|verdict| *verdict == Verdict::Create), "{verdicts:?}");
        assert_eq!(verdicts[11], Verdict::Repeat { name: "e10".into(), count: 3 });
        assert_eq!(events[11].message, "(combined from similar events): try 11");
    }
}
