//! Which events are new and which go on with one that is known: the rule of client-go's recorders of `events.k8s.io`.
//! The words do not tell them apart; what it is about, in which state, and why do.

use super::{FINISH, Told};
use crate::scheduler::NAME;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Letters of a note.
const LONGEST: usize = 1024;
/// What happens once to a pod need not be remembered.
const ONCE: &str = "Scheduled";

type Key = (&'static str, String, String, String);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Series {
    rows: HashMap<Key, Row>,
}

/// One event as it is to be written.
#[derive(Debug, Clone)]
pub(super) struct Row {
    event: Value,
    name: String,
    namespace: String,
    first: Timestamp,
    /// How often it has been, and when last.
    series: Option<(i32, Timestamp)>,
}

impl Row {
    fn of(told: Told, instance: &str) -> Self {
        let Told { said, regarding, related, at } = told;
        let name = format!("{}.{:x}", regarding.name.as_deref().unwrap_or_default(), at.as_nanosecond());
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let note: String = said.note.chars().take(LONGEST).collect();
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
            "regarding": regarding, "reason": said.reason, "note": note, "type": said.severity.word(),
            "action": said.action, "eventTime": MicroTime(at), "reportingController": NAME,
            "reportingInstance": instance,
        });
        if let Some(related) = related {
            event["related"] = json!(related);
        }
        Self { event, name, namespace, first: at, series: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The whole object.
    pub(super) fn event(&self) -> Value {
        let mut event = self.event.clone();
        if let Some(change) = self.change() {
            event["series"] = change["series"].clone();
        }
        event
    }

    /// What is to be changed of one that is written already.
    pub(super) fn change(&self) -> Option<Value> {
        let (count, last) = self.series?;
        Some(json!({"series": {"count": count, "lastObservedTime": MicroTime(last)}}))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let last = self.series.map_or(self.first, |(_, last)| last);
        now.duration_since(last) > SignedDuration::try_from(FINISH).unwrap_or_default()
    }
}

impl Series {
    /// What is to be written of an event, if anything: of those that go on with one only the second.
    pub(super) fn judge(&mut self, told: Told, instance: &str) -> Option<Row> {
        if told.said.reason == ONCE {
            return Some(Row::of(told, instance));
        }
        let related = told.related.as_ref().map(state).unwrap_or_default();
        let key = (told.said.reason, told.said.action.to_owned(), state(&told.regarding), related);
        let Some(row) = self.rows.get_mut(&key) else {
            let row = Row::of(told, instance);
            self.rows.insert(key, row.clone());
            return Some(row);
        };
        let count = row.series.map_or(2, |(count, _)| count + 1);
        row.series = Some((count, told.at));
        (count == 2).then(|| row.clone())
    }

    /// Series that are over, to be written a last time. What has not been for long is forgotten.
    pub(super) fn finished(&mut self, now: Timestamp) -> Vec<Row> {
        let over = self.rows.extract_if(|_, row| row.is_over(now)).map(|(_, row)| row);
        over.filter(|row| row.series.is_some()).collect()
    }

    /// Series that go on, to be written again before they are too old.
    pub(super) fn going_on(&self) -> Vec<Row> {
        self.rows.values().filter(|row| row.series.is_some()).cloned().collect()
    }
}

/// An object in one state.
fn state(object: &ObjectReference) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    [&object.namespace, &object.name, &object.uid, &object.resource_version].map(text).join("/")
}

#[cfg(test)]
mod tests {
    use super::super::Said;
    use super::*;
    use crate::controllers::events::Severity;

    fn told(version: &str, note: &str, at: i64) -> Told {
        let object = ObjectReference {
            name: Some("p".into()),
            namespace: Some("d".into()),
            resource_version: Some(version.into()),
            ..ObjectReference::default()
        };
        let (reason, action) = ("FailedScheduling", "Scheduling");
        let said = Said { severity: Severity::Warning, reason, action, note: note.into() };
        Told { said, regarding: object, related: None, at: Timestamp::from_second(at).unwrap() }
    }

    #[test]
    fn what_goes_on_is_a_series() {
        let mut series = Series::default();
        let first = series.judge(told("1", "a", 0), "i").unwrap();
        assert_eq!(first.change(), None);
        assert_eq!((first.event()["note"].as_str(), first.event()["series"].is_null()), (Some("a"), true));
        let second = series.judge(told("1", "b", 60), "i").unwrap();
        assert_eq!((second.name(), &second.event()["note"]), (first.name(), &json!("a")));
        let expected = json!({"series": {"count": 2, "lastObservedTime": "1970-01-01T00:01:00.000000Z"}});
        assert_eq!(second.change(), Some(expected));
        assert!(series.judge(told("1", "c", 120), "i").is_none(), "only counted");
        let other = series.judge(told("2", "a", 121), "i").unwrap();
        assert_eq!((other.change(), other.name() == first.name()), (None, false), "another state of the pod");
        assert_eq!(series.going_on().len(), 1);
        assert!(series.finished(Timestamp::from_second(480).unwrap()).is_empty());
        let last = series.finished(Timestamp::from_second(500).unwrap());
        assert_eq!(last.iter().map(|row| row.series.map(|(count, _)| count)).collect::<Vec<_>>(), [Some(3)]);
        assert!(series.rows.is_empty());
        assert!(series.judge(told("1", "d", 500), "i").unwrap().change().is_none(), "anew");
    }
}
