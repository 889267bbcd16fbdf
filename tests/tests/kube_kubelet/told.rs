//! What a node has told of a pod, without what differs from run to run (times, ids, addresses, how often something was
//! tried) and without what kubelets of other versions than ours tell.

use crate::plane::Plane;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Every leaf of `status` by its path, and the events.
pub(crate) struct Told {
    status: BTreeMap<String, String>,
    events: BTreeSet<String>,
}

/// Only that there is something.
const VARIES: [&str; 10] = [
    "lastTransitionTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "containerID",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "imageID",
];
/// Younger than the version that we are: of a whole pod.
const YOUNGER: [&str; 2] = ["resources", "allocatedResources"];
/// Their texts are other ones since 1.34 and 1.36.
const REWORDED: [&str; 3] = ["Created", "Started", "Pulled"];

pub(crate) fn of(plane: &Plane, node: &str, pod: &str) -> Told {
    let object = plane.get(&["pod", pod, "-n", node]);
    let mut status = object["status"].clone();
    if let Some(fields) = status.as_object_mut() {
        YOUNGER.iter().for_each(|field| drop(fields.remove(*field)));
    }
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let ip = object["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let plain = |text: &str| plain(text, &[(uid, "UID"), (&ip, "IP"), (node, "NODE")]);
    let mut leaves = BTreeMap::new();
    flatten(&status, String::new(), &mut leaves, &plain);
    let selector = format!("involvedObject.name={pod}");
    let events = plane.get(&["events", "-n", node, "--field-selector", &selector]);
    let events = events["items"].as_array().cloned().unwrap_or_default();
    Told { status: leaves, events: events.iter().map(|event| line(event, &plain)).collect() }
}

fn line(event: &Value, plain: &dyn Fn(&str) -> String) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reason = text(&event["reason"]);
    let message =
        if REWORDED.contains(&reason.as_str()) { String::new() } else { plain(&text(&event["message"])) };
    format!("{} {reason} {}: {message}", text(&event["type"]), text(&event["involvedObject"]["fieldPath"]))
}

/// Without the words of this run, and without durations.
fn plain(text: &str, known: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (word, name) in known.iter().filter(|(word, _)| !word.is_empty()) {
        text = text.replace(word, name);
    }
    let is_duration = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with('s');
    text.split(' ').map(|word| if is_duration(&word) { "TIME" } else { word }).collect::<Vec<_>>().join(" ")
}

fn flatten(value: &Value, path: String, into: &mut BTreeMap<String, String>, plain: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                flatten_field(fields, field, value, &path, into, plain);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                let key = ["type", "name"].iter().find_map(|key| item[key].as_str());
                let key = key.map_or_else(|| number.to_string(), str::to_owned);
                flatten(item, format!("{path}[{key}]"), into, plain);
            }
        }
        Value::String(text) => drop(into.insert(path, plain(text))),
        other => drop(into.insert(path, other.to_string())),
    }
}

fn flatten_field(
    siblings: &Map<String, Value>,
    field: &str,
    value: &Value,
    path: &str,
    into: &mut BTreeMap<String, String>,
    plain: &dyn Fn(&str) -> String,
) {
    let path = format!("{path}.{field}");
    // Without a limit of memory a young kubelet tells the limit of the kernel, once the container has ended.
    let no_limit = field == "memory" && value.as_str().is_some_and(|text| text.starts_with("9007199254740"));
    if VARIES.contains(&field) {
        into.insert(path, "something".to_owned());
    } else if field == "restartCount" {
        let often = value.as_u64().is_some_and(|count| count > 0);
        into.insert(path, if often { "again" } else { "0" }.to_owned());
    } else if field == "state" && keeps_ending(siblings) {
        into.insert(path, "keeps ending".to_owned());
    } else if field != "lastState" && !no_limit {
        flatten(value, path, into, plain);
    }
}

/// Whether a container is being tried again and again: which of its states is seen is a matter of the moment.
fn keeps_ending(status: &Map<String, Value>) -> bool {
    let again = status.get("restartCount").and_then(Value::as_u64).is_some_and(|count| count > 1);
    let reason = status.get("state").map(|state| state["waiting"]["reason"].clone()).unwrap_or_default();
    again || ["ErrImagePull", "ImagePullBackOff"].iter().any(|word| reason == *word)
}

pub(crate) fn differences(theirs: &Told, ours: &Told) -> String {
    let mut text = String::new();
    if theirs.status.len() < 3 || ours.status.len() < 3 {
        return "nothing has been told yet".to_owned();
    }
    let paths: BTreeSet<&String> = theirs.status.keys().chain(ours.status.keys()).collect();
    for path in paths {
        let (a, b) = (theirs.status.get(path), ours.status.get(path));
        if a != b {
            let _written = writeln!(text, "status{path}: a kubelet says {a:?}, we say {b:?}");
        }
    }
    for event in theirs.events.symmetric_difference(&ours.events) {
        let who = if theirs.events.contains(event) { "a kubelet" } else { "we" };
        let _written = writeln!(text, "event of {who} alone: {event}");
    }
    text
}
