//! The parameters of requests, each with what it is for.

use serde_json::{Value, json};

/// What every writing request takes.
pub(super) const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
pub(super) const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
pub(super) const DELETE: [&str; 3] = ["dryRun", "gracePeriodSeconds", "propagationPolicy"];

/// A parameter of the query.
pub(super) fn in_query(name: &str) -> Value {
    let kind = match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "watch" | "allowWatchBookmarks" | "sendInitialEvents" => "boolean",
        _ => "string",
    };
    let schema = json!({"type": kind, "uniqueItems": true});
    json!({"name": name, "in": "query", "description": purpose(name), "schema": schema})
}

/// A part of the path.
pub(super) fn in_path(name: &str, purpose: &str) -> Value {
    let schema = json!({"type": "string"});
    json!({"name": name, "in": "path", "description": purpose, "required": true, "schema": schema})
}

fn purpose(name: &str) -> &'static str {
    match name {
        "allowWatchBookmarks" => {
            "Whether to send events of type BOOKMARK too, which only say how far a watch has come."
        }
        "continue" => "Where the page before this one ended, as its metadata says.",
        "dryRun" => "With All nothing is stored; the answer is what it would have been.",
        "fieldManager" => "Who owns the fields that are set.",
        "fieldSelector" => "Restricts the list of returned objects by their fields.",
        "fieldValidation" => {
            "What to do with unknown and duplicate fields: Ignore, Warn (if nothing is said) or Strict."
        }
        "gracePeriodSeconds" => "How long the object may take to end, in seconds; with 0 it is gone at once.",
        "labelSelector" => "Restricts the list of returned objects by their labels.",
        "limit" => "How many objects to return at most; the metadata of the list says where to go on.",
        "propagationPolicy" => "What becomes of the objects that it owns: Orphan, Background or Foreground.",
        "resourceVersion" => "The version to list at, or to watch from.",
        "resourceVersionMatch" => "How resourceVersion counts for a list: Exact or NotOlderThan.",
        "sendInitialEvents" => "Whether a watch begins with an event for every object that is there.",
        "timeoutSeconds" => "How long to list or watch at most, in seconds.",
        "watch" => {
            "Watch for changes to the described resources: every addition, change and removal, as it happens."
        }
        _ => "",
    }
}
