//! Watches: what a client reads line by line.

use super::*;
use std::time::Duration;

/// A watch that is read line by line, with a deadline.
struct Lines<'a> {
    lab: &'a Lab,
    body: Body,
    text: String,
}

impl Lines<'_> {
    /// Type and object of the next event; `None` at the end.
    fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event: Value = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].clone()));
            }
            let body = &mut self.body;
            let next = async { tokio::time::timeout(Duration::from_secs(60), body.frame()).await.unwrap() };
            let frame = self.lab.runtime.block_on(next)?;
            self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    /// Type, name and datum of the next event.
    fn short(&mut self) -> (String, String, String) {
        let (kind, object) = self.next().expect("an event");
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        (kind, text("/metadata/name"), text("/data/a"))
    }
}

fn watch<'a>(lab: &'a Lab, query: &str) -> Lines<'a> {
    let answer =
        lab.send(User::server(), "GET", &format!("{CONFIG_MAPS}?watch=true&{query}"), "", Vec::new());
    assert_eq!(answer.status(), 200);
    Lines { lab, body: answer.into_body(), text: String::new() }
}

fn event(kind: &str, name: &str, value: &str) -> (String, String, String) {
    (kind.into(), name.into(), value.into())
}

fn set(lab: &Lab, name: &str, value: &str) {
    let patch = json!({"data": {"a": value}, "metadata": {"labels": {"value": value}}});
    assert_eq!(lab.patch(&format!("{CONFIG_MAPS}/{name}"), "merge", &patch).code, 200);
}

#[test]
fn a_watch_without_revision_begins_with_what_is_there() {
    let lab = lab();
    lab.config_map("a", "1");
    let mut lines = watch(&lab, "");
    assert_eq!(lines.short(), event("ADDED", "a", "1"));
    set(&lab, "a", "2");
    assert_eq!(lines.short(), event("MODIFIED", "a", "2"));
    lab.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null);
    assert_eq!(lines.short(), event("DELETED", "a", "2"));
}

#[test]
fn a_watch_from_a_revision_gives_what_came_after() {
    let lab = lab();
    let revision = lab.config_map("a", "1");
    set(&lab, "a", "2");
    let mut lines = watch(&lab, &format!("resourceVersion={revision}"));
    assert_eq!(lines.short(), event("MODIFIED", "a", "2"));
    lab.stop.send_replace(true);
    assert!(lines.next().is_none(), "the end of the server ends the watch");
}

#[test]
fn objects_enter_and_leave_a_selection() {
    let lab = lab();
    lab.config_map("a", "1");
    let mut lines = watch(&lab, "labelSelector=value%3D2&resourceVersion=0");
    set(&lab, "a", "2");
    assert_eq!(lines.short(), event("ADDED", "a", "2"));
    set(&lab, "a", "3");
    assert_eq!(lines.short(), event("DELETED", "a", "2"));
    let mut one = watch(&lab, "fieldSelector=metadata.name%3Db&resourceVersion=0");
    lab.config_map("c", "1");
    lab.config_map("b", "1");
    assert_eq!(one.short(), event("ADDED", "b", "1"));
}

#[test]
fn a_revision_that_is_too_old_is_an_event() {
    let lab = lab();
    let revision = lab.config_map("a", "1");
    set(&lab, "a", "2");
    lab.runtime.block_on(lab.server.store.compact(lab.server.store.revision())).unwrap();
    let (kind, status) = watch(&lab, &format!("resourceVersion={revision}")).next().unwrap();
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert!(
        status["message"].as_str().unwrap().starts_with(&format!("too old resource version: {revision} ("))
    );
}

#[test]
fn initial_events_end_with_a_bookmark() {
    let lab = lab();
    let revision = lab.config_map("a", "1");
    let query =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0&allowWatchBookmarks=true";
    let mut lines = watch(&lab, query);
    assert_eq!(lines.short(), event("ADDED", "a", "1"));
    let (kind, object) = lines.next().unwrap();
    assert_eq!((kind.as_str(), &object["metadata"]["resourceVersion"]), ("BOOKMARK", &json!(revision)));
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    set(&lab, "a", "2");
    assert_eq!(lines.short(), event("MODIFIED", "a", "2"));
}

#[test]
fn a_watch_ends_when_its_time_is_over() {
    let lab = lab();
    let mut lines = watch(&lab, "timeoutSeconds=1&resourceVersion=0");
    while lines.next().is_some() {}
}

/// Whatever happens to objects, a watcher that reconnects at random sees every change once and in order.
#[test]
fn reconnecting_watchers_see_every_change_once() {
    let lab = lab();
    let start = lab.config_map("a", "0");
    let mut revision = start;
    let mut seen = Vec::new();
    for round in 0..10 {
        for step in 0..5 {
            set(&lab, "a", &format!("{}", round * 5 + step + 1));
        }
        let mut lines = watch(&lab, &format!("resourceVersion={revision}"));
        // Each connection reads another number of events before it is dropped.
        for _ in 0..(round % 7) {
            if seen.len() < (round + 1) * 5 {
                let (_, object) = lines.next().unwrap();
                revision = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
                seen.push(object["data"]["a"].as_str().unwrap().parse::<usize>().unwrap());
            }
        }
    }
    let mut lines = watch(&lab, &format!("resourceVersion={revision}"));
    while seen.len() < 50 {
        seen.push(lines.short().2.parse().unwrap());
    }
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
}
