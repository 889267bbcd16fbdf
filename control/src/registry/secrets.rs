//! Secrets: data that pods mount or read, kept apart from configuration.

use super::columns::{age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, configmaps, faults::Faults, fields, validation};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "Secret", "secrets")
        .columns(vec![
            name(),
            text("Type", "Kind of data, for those who handle it by program.", |object| {
                fields::text(object, "/type").to_owned()
            }),
            integer("Data", "Number of keys.", |object| fields::pairs(object, "/data").count() as i64),
            age(),
        ])
        .rules(Rules { defaults, validate, validate_update, selectable, ..Rules::NONE })
        .done()
}

fn defaults(object: &mut Value) {
    fields::fill_text(object, "type", "Opaque");
    let Some(Value::Object(plain)) = object.as_object_mut().and_then(|map| map.remove("stringData")) else {
        return;
    };
    let Some(Value::Object(data)) = fields::child(object, "data") else { return };
    for (key, value) in plain {
        data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    let lengths = fields::pairs(object, "/data").map(|(_, value)| configmaps::decoded_length(value));
    configmaps::limit_size("data", lengths, faults);
    for (key, _) in fields::pairs(object, "/data") {
        validation::config_key(&format!("data[{key}]"), key, faults);
    }
    let kind = fields::text(object, "/type");
    let none = Map::new();
    let data = object.get("data").and_then(Value::as_object).unwrap_or(&none);
    let needed: &[&str] = match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        // One of the two is enough.
        "kubernetes.io/basic-auth" if !["username", "password"].iter().any(|key| data.contains_key(*key)) => {
            &["username", "password"]
        }
        _ => &[],
    };
    for key in needed.iter().filter(|key| !data.contains_key(**key)) {
        faults.required(format!("data[{key}]"), "");
    }
    well_formed(object, kind, data, faults);
}

/// What the type promises about the data, beyond its keys.
fn well_formed(object: &Value, kind: &str, data: &Map<String, Value>, faults: &mut Faults) {
    let decoded = |key: &str| STANDARD.decode(data.get(key)?.as_str()?).ok();
    match kind {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let name = object.pointer("/metadata/annotations").and_then(|annotations| annotations.get(key));
            if name.and_then(Value::as_str).unwrap_or_default().is_empty() {
                faults.required(format!("metadata.annotations[{key}]"), "");
            }
        }
        "kubernetes.io/ssh-auth" if decoded("ssh-privatekey").is_some_and(|found| found.is_empty()) => {
            faults.required("data[ssh-privatekey]", "");
        }
        "kubernetes.io/dockercfg" => json_file(".dockercfg", decoded(".dockercfg"), faults),
        "kubernetes.io/dockerconfigjson" => {
            json_file(".dockerconfigjson", decoded(".dockerconfigjson"), faults);
        }
        _ => {}
    }
}

fn json_file(key: &str, content: Option<Vec<u8>>, faults: &mut Faults) {
    let Some(content) = content else { return };
    if serde_json::from_slice::<Map<String, Value>>(&content).is_ok() {
        return;
    }
    let first = content.iter().copied().find(|byte| !byte.is_ascii_whitespace()).map(char::from);
    let detail = match first {
        None => "unexpected end of JSON input".to_owned(),
        Some('{') => "invalid character in object".to_owned(),
        Some(other) => format!("invalid character {other:?} looking for beginning of value"),
    };
    faults.invalid(format!("data[{key}]"), &"<secret contents redacted>".into(), &detail);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    if new.get("type") != old.get("type") {
        faults.immutable("type", new.get("type").unwrap_or(&Value::Null));
    }
    configmaps::keep_immutable(new, old, faults);
}

fn selectable(object: &Value, field: &str) -> Option<String> {
    (field == "type").then(|| fields::text(object, "/type").to_owned())
}
