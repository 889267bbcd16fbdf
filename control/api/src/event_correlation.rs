//! Which events are new, which repeat an earlier one, and which are too many: one rule for the node and for the
//! controllers, that of client-go's recorders, so that `kubectl describe` shows the same rows and counts.
//!
//! A repetition raises the count of the first. Many that differ in their message only become one whose message is that
//! of the last. An object that goes on and on is heard less often.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};

/// How many different events are remembered.
const REMEMBERED: usize = 4096;
/// An object may produce this many events at once, then one per `REFILL_SECONDS`.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// So many events that differ in their message only, within this time, become one.
const SIMILAR: usize = 10;
const SIMILAR_SECONDS: f64 = 600.0;
/// Letters of a message.
const LONGEST: usize = 1024;
const COMBINED: &str = "(combined from similar events): ";

/// What an event says.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// What it is about.
    pub object: &'a ObjectReference,
    /// `Normal` or `Warning`.
    pub severity: &'a str,
    #[allow(missing_docs)]
    pub reason: &'a str,
    #[allow(missing_docs)]
    pub message: &'a str,
    /// When it happened.
    pub at: Timestamp,
}

/// What is to be written of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Of the object on the server; a repetition has that of the first.
    pub name: String,
    #[allow(missing_docs)]
    pub message: String,
    /// How often it has been, with this time. The first is to be created; the others change that, and create it (under
    /// the same name) where the server has it no more, or not yet.
    pub count: i32,
    first: Timestamp,
}

impl Row {
    /// The whole object.
    pub fn event(&self, said: Said<'_>, source: EventSource) -> Event {
        let namespace = said.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: said.object.clone(),
            reason: Some(said.reason.to_owned()),
            message: Some(self.message.chars().take(LONGEST).collect()),
            type_: Some(said.severity.to_owned()),
            count: Some(self.count),
            first_timestamp: Some(Time(self.first)),
            last_timestamp: Some(Time(said.at)),
            reporting_component: source.component.clone(),
            reporting_instance: source.host.clone(),
            source: Some(source),
            ..Event::default()
        }
    }

    /// What a repetition changes.
    pub fn change(&self, said: Said<'_>) -> Value {
        let message: String = self.message.chars().take(LONGEST).collect();
        json!({"count": self.count, "lastTimestamp": Time(said.at), "message": message})
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    field_path: String,
    severity: String,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct Written {
    name: String,
    count: i32,
    first: Timestamp,
}

/// Messages of one object, severity and reason.
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
pub struct Correlator {
    written: HashMap<Key, Written>,
    order: VecDeque<Key>,
    /// By everything but the message and the part of the object.
    similar: HashMap<Key, Similar>,
    /// By the object's uid.
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    /// Says what is to be written of an event, if anything.
    pub fn judge(&mut self, said: Said<'_>) -> Option<Row> {
        let message = match self.is_one_of_many(said) {
            true => format!("{COMBINED}{}", said.message),
            false => said.message.to_owned(),
        };
        let key = key(Said { message: &message, ..said });
        let heard = self.take_token(said);
        if let Some(written) = self.written.get_mut(&key) {
            // Also where nobody hears of it: the next one tells how often it has been.
            written.count += 1;
            let Written { name, count, first } = written;
            return heard.then(|| Row { name: name.clone(), message, count: *count, first: *first });
        }
        heard.then(|| self.remember(key, said, message))
    }

    fn remember(&mut self, key: Key, said: Said<'_>, message: String) -> Row {
        let object = said.object.name.as_deref().unwrap_or_default();
        let name = format!("{object}.{:x}", said.at.as_nanosecond());
        self.written.insert(key.clone(), Written { name: name.clone(), count: 1, first: said.at });
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.written.remove(&oldest);
        }
        Row { name, message, count: 1, first: said.at }
    }

    fn is_one_of_many(&mut self, said: Said<'_>) -> bool {
        if self.similar.len() > REMEMBERED {
            self.similar.retain(|_, similar| seconds(similar.last, said.at) < SIMILAR_SECONDS);
        }
        if self.similar.len() > REMEMBERED {
            self.similar.clear();
        }
        let group = Key { message: String::new(), field_path: String::new(), ..key(said) };
        let new = || Similar { messages: HashSet::new(), last: said.at };
        let similar = self.similar.entry(group).or_insert_with(new);
        if seconds(similar.last, said.at) >= SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.last = said.at;
        if similar.messages.len() < SIMILAR {
            similar.messages.insert(said.message.to_owned());
        }
        similar.messages.len() >= SIMILAR
    }

    fn take_token(&mut self, said: Said<'_>) -> bool {
        if self.buckets.len() > REMEMBERED {
            self.buckets.retain(|_, bucket| seconds(bucket.updated, said.at) < BURST * REFILL_SECONDS);
        }
        if self.buckets.len() > REMEMBERED {
            self.buckets.clear();
        }
        let uid = said.object.uid.clone().unwrap_or_default();
        let bucket = self.buckets.entry(uid).or_insert(Bucket { tokens: BURST, updated: said.at });
        bucket.tokens = (bucket.tokens + seconds(bucket.updated, said.at) / REFILL_SECONDS).min(BURST);
        bucket.updated = said.at;
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

fn key(said: Said<'_>) -> Key {
    // All that are combined are one event.
    let message = if said.message.starts_with(COMBINED) { COMBINED } else { said.message };
    Key {
        uid: said.object.uid.clone().unwrap_or_default(),
        field_path: said.object.field_path.clone().unwrap_or_default(),
        severity: said.severity.to_owned(),
        reason: said.reason.to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of a message about one object at a second.
    fn tell(correlator: &mut Correlator, message: &str, at: i64) -> Option<Row> {
        let object =
            ObjectReference { uid: Some("u".into()), name: Some("o".into()), ..ObjectReference::default() };
        let at = Timestamp::from_second(at).unwrap();
        correlator.judge(Said { object: &object, severity: "Normal", reason: "R", message, at })
    }

    #[test]
    fn repetitions_are_counted_under_one_name() {
        let mut correlator = Correlator::default();
        let first = tell(&mut correlator, "a", 0).unwrap();
        let second = tell(&mut correlator, "a", 1).unwrap();
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!((&second.name, second.first), (&first.name, first.first));
        let other = tell(&mut correlator, "b", 2).unwrap();
        assert_eq!(other.count, 1);
        assert_ne!(other.name, first.name);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut correlator = Correlator::default();
        let at = Timestamp::from_second(0).unwrap();
        for number in 0..3 * REMEMBERED {
            let object = ObjectReference { uid: Some(number.to_string()), ..ObjectReference::default() };
            correlator.judge(Said { object: &object, severity: "Normal", reason: "R", message: "m", at });
        }
        let most = [correlator.written.len(), correlator.similar.len(), correlator.buckets.len()];
        assert!(most.iter().all(|count| *count <= REMEMBERED + 1), "{most:?}");
    }

    #[test]
    fn a_flood_is_cut_to_its_burst_and_counted_on() {
        let mut correlator = Correlator::default();
        let kept = (0..100).filter(|_| tell(&mut correlator, "a", 0).is_some()).count();
        assert_eq!(kept, 25);
        assert_eq!(tell(&mut correlator, "a", 301).unwrap().count, 101);
    }

    #[test]
    fn many_that_differ_in_their_message_only_become_one_until_they_rest() {
        let mut correlator = Correlator::default();
        let told: Vec<Row> =
            (0..12).map(|at| tell(&mut correlator, &format!("try {at}"), at).unwrap()).collect();
        assert!(told[..10].iter().all(|row| row.count == 1), "{told:?}");
        let combined = "(combined from similar events): try";
        assert_eq!((told[8].message.as_str(), &told[9].message), ("try 8", &format!("{combined} 9")));
        assert_eq!((told[11].count, &told[11].message), (3, &format!("{combined} 11")));
        assert_eq!(told[11].name, told[9].name);
        let rested = tell(&mut correlator, "try again", 700).unwrap();
        assert_eq!((rested.count, rested.message.as_str()), (1, "try again"));
    }

    #[test]
    fn a_row_is_an_event() {
        let row = tell(&mut Correlator::default(), "a", 7).unwrap();
        let object = ObjectReference { namespace: Some("n".into()), ..ObjectReference::default() };
        let said = Said { object: &object, severity: "Warning", reason: "R", message: "a", at: row.first };
        let source = EventSource { component: Some("c".into()), host: Some("h".into()) };
        let event = serde_json::to_value(row.event(said, source)).unwrap();
        assert_eq!(event["metadata"], json!({"name": "o.1a13b8600", "namespace": "n"}));
        assert_eq!((&event["count"], &event["type"]), (&json!(1), &json!("Warning")));
        assert_eq!(event["reportingComponent"], event["source"]["component"]);
        assert_eq!(row.change(said)["lastTimestamp"], event["lastTimestamp"]);
    }
}
