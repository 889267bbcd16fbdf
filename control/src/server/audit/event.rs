//! One event of the audit log, as `audit.k8s.io/v1` writes it.

use super::policy::{Level, Stage};
use super::{About, Trail};
use crate::authn::User;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How a request ended, or began to be answered.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: u16,
    /// Where it was read: at the highest level, and of refusals.
    pub(super) body: Option<Value>,
}

/// One line of the log, without the line break.
pub(super) fn of(trail: &Trail, about: &About, stage: Stage, outcome: Option<Outcome>) -> String {
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": format!("{:?}", about.level),
        "auditID": trail.id, "stage": format!("{stage:?}"), "requestURI": trail.uri, "verb": about.verb,
        "user": trail.user.get().map_or_else(|| json!({}), User::info),
        "sourceIPs": trail.sources, "userAgent": trail.agent,
        "requestReceivedTimestamp": micros(trail.received), "stageTimestamp": micros(Timestamp::now()),
    });
    if let Some(path) = &about.path {
        event["objectRef"] = object_ref(path);
    }
    if let Some(impersonated) = trail.impersonated.get() {
        event["impersonatedUser"] = impersonated.info();
    }
    if stage != Stage::RequestReceived && about.level >= Level::Request {
        let sent = trail.body.get().and_then(|body| decoded(&trail.content_type, body));
        put_object(&mut event, "requestObject", sent, about);
    }
    if let Some(outcome) = outcome {
        put_outcome(&mut event, about, outcome);
    }
    event.to_string()
}

fn put_outcome(event: &mut Value, about: &About, outcome: Outcome) {
    let mut status = json!({"metadata": {}, "code": outcome.code});
    let failure = outcome.body.as_ref().filter(|body| body["kind"] == "Status" && outcome.code >= 400);
    for field in ["status", "message", "reason", "details"] {
        if let Some(value) = failure.and_then(|failure| failure.get(field)) {
            status[field] = value.clone();
        }
    }
    event["responseStatus"] = status;
    let decision = if outcome.code == 403 { "forbid" } else { "allow" };
    event["annotations"] =
        json!({"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": ""});
    if about.level == Level::RequestResponse {
        put_object(event, "responseObject", outcome.body, about);
    }
}

fn put_object(event: &mut Value, field: &str, object: Option<Value>, about: &About) {
    let Some(mut object) = object else { return };
    if about.omit_managed_fields {
        let metadata = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        };
        metadata(&mut object);
        object["items"].as_array_mut().into_iter().flatten().for_each(metadata);
        if object["items"].is_null()
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("items");
        }
    }
    event[field] = object;
}

/// A body, whatever it is written in.
pub(super) fn decoded(content_type: &str, body: &Bytes) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/vnd.kubernetes.protobuf" => crate::protobuf::decode(body).ok(),
        "application/yaml" | "application/apply-patch+yaml" => super::super::yaml::read(body).ok(),
        _ => serde_json::from_slice(body).ok(),
    }
}

fn object_ref(path: &super::ResourcePath) -> Value {
    let mut about = json!({"resource": path.plural, "apiVersion": path.version});
    let parts = [
        ("namespace", path.namespace()),
        ("name", path.name()),
        ("apiGroup", &path.group),
        ("subresource", path.subresource()),
    ];
    for (field, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
        about[field] = value.into();
    }
    about
}

/// RFC 3339 with microseconds, as Kubernetes' MicroTime.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}
