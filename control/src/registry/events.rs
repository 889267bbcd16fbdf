//! Events: what happened to objects, kept for an hour.
//!
//! Two groups serve the same events under different field names; the core shape is the stored one.

use super::columns::{integer, name, text, timed};
use super::row::Row;
use super::rules::Rules;
use super::{Column, Resource, StoredAs, cells, fields};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The rows of both groups.
pub(super) fn rows() -> Vec<Resource> {
    let rules = Rules { selectable, ..Rules::NONE };
    let stored_as = StoredAs {
        row: ("".into(), "v1".into(), "events".into()),
        to_stored: Arc::new(to_stored),
        from_stored: Arc::new(from_stored),
    };
    vec![
        Row::namespaced("", "v1", "Event", "events").short(&["ev"]).columns(columns()).rules(rules).done(),
        Row::namespaced("events.k8s.io", "v1", "Event", "events")
            .short(&["ev"])
            .columns(columns().into_iter().map(over_stored_shape).collect())
            .rules(Rules {
                selectable: |event, field| selectable(&to_stored(event.clone()), &core_field(field)),
                ..Rules::NONE
            })
            .stored_as(stored_as)
            .done(),
    ]
}

fn columns() -> Vec<Column> {
    let mut identity = name();
    identity.priority = 1;
    vec![
        timed("Last Seen", "When it happened last.", last_seen),
        text("Type", "Normal or Warning.", |event| fields::text(event, "/type").to_owned()),
        text("Reason", "Why, in one word.", |event| fields::text(event, "/reason").to_owned()),
        text("Object", "What it happened to.", |event| {
            let kind = fields::text(event, "/involvedObject/kind").to_lowercase();
            format!("{kind}/{}", fields::text(event, "/involvedObject/name"))
        }),
        text("Subobject", "Part of the object.", |event| {
            fields::text(event, "/involvedObject/fieldPath").to_owned()
        })
        .wide(),
        text("Source", "Who reports it.", source).wide(),
        text("Message", "What happened.", |event| fields::text(event, "/message").trim().to_owned()),
        timed("First Seen", "When it happened first.", first_seen).wide(),
        integer("Count", "How often it happened.", count).wide(),
        identity,
    ]
}

/// The same column for an event in the shape of events.k8s.io.
fn over_stored_shape(mut column: Column) -> Column {
    let stored = column.cell;
    column.cell = Arc::new(move |event, now| stored(&to_stored(event.clone()), now));
    column
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let first = fields::text(event, "/firstTimestamp");
    cells::since(if first.is_empty() { fields::text(event, "/eventTime") } else { first }, now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/firstTimestamp", "/eventTime"];
    let last = times.iter().map(|pointer| fields::text(event, pointer)).find(|time| !time.is_empty());
    cells::since(last.unwrap_or_default(), now)
}

fn count(event: &Value) -> i64 {
    fields::int(event, "/series/count").or_else(|| fields::int(event, "/count")).unwrap_or(0).max(1)
}

fn source(event: &Value) -> String {
    let component = match fields::text(event, "/source/component") {
        "" => fields::text(event, "/reportingComponent"),
        component => component,
    };
    let host = match fields::text(event, "/source/host") {
        "" => fields::text(event, "/reportingInstance"),
        host => host,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

fn selectable(event: &Value, field: &str) -> Option<String> {
    let pointer = match field {
        "involvedObject.kind"
        | "involvedObject.namespace"
        | "involvedObject.name"
        | "involvedObject.uid"
        | "involvedObject.apiVersion"
        | "involvedObject.resourceVersion"
        | "involvedObject.fieldPath"
        | "reason"
        | "reportingComponent"
        | "type" => format!("/{}", field.replace('.', "/")),
        "source" => {
            let component = fields::text(event, "/source/component");
            let fallback = fields::text(event, "/reportingComponent");
            return Some(if component.is_empty() { fallback } else { component }.to_owned());
        }
        _ => return None,
    };
    Some(fields::text(event, &pointer).to_owned())
}

/// What a field of events.k8s.io is called in the core group.
fn core_field(field: &str) -> String {
    match field {
        "reportingController" => "reportingComponent".to_owned(),
        other => other.replacen("regarding.", "involvedObject.", 1),
    }
}

/// Field names: events.k8s.io, core.
const NAMES: [(&str, &str); 7] = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn to_stored(event: Value) -> Value {
    rename(event, "v1", |name| NAMES.iter().find(|(new, _)| *new == name).map(|(_, core)| *core))
}

fn from_stored(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |name| {
        NAMES.iter().find(|(_, core)| *core == name).map(|(new, _)| *new)
    })
}

fn rename(event: Value, api_version: &str, name_of: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(map) = event else { return event };
    let renamed =
        map.into_iter().map(|(name, value)| (name_of(&name).map(str::to_owned).unwrap_or(name), value));
    let mut event: Map<String, Value> = renamed.collect();
    event.insert("apiVersion".to_owned(), api_version.into());
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_of_either_group_is_the_same_event() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "n", "reason": "R", "reportingController": "c"});
        let core = to_stored(new.clone());
        assert_eq!(core["involvedObject"]["name"], "p");
        assert_eq!(core["message"], "n");
        assert_eq!(core["apiVersion"], "v1");
        assert_eq!(from_stored(core.clone()), new);
        assert_eq!(selectable(&core, "involvedObject.name").as_deref(), Some("p"));
        assert_eq!(selectable(&core, "message"), None);
    }
}
