//! Request bodies: JSON, YAML or protobuf, decoded into one JSON object whose apiVersion and kind are what the path
//! demands.

use super::{Call, go_json, yaml};
use crate::schema::{self, Strictness, Written};
use http::header;
use knarr_api::Status;
use serde_json::Value;

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// The content type without its parameters; JSON where absent.
pub(crate) fn content_type(call: &Call) -> &str {
    let header =
        call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim()
}

fn format(call: &Call) -> Result<Format, Status> {
    match content_type(call) {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

/// The body, whatever it holds; `None` when empty.
pub(crate) fn any(call: &Call) -> Result<Option<Value>, Status> {
    if call.body.is_empty() {
        return Ok(None);
    }
    let object = match format(call)? {
        Format::Json => json(&call.body)?,
        Format::Yaml => yaml::read(&call.body)?,
        Format::Protobuf => protobuf(&call.body)?,
    };
    if object.is_object() {
        return Ok(Some(object));
    }
    let typed = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let found = knarr_api::json_kind(&object);
    Err(Status::bad_request(format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type {typed}"
    )))
}

/// JSON, with the words of Kubernetes about where it is broken.
fn json(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body).map_err(|error| {
        let fault = go_json::fault(body, &error);
        Status::bad_request(format!("couldn't get version/kind; json parse error: {fault}"))
    })
}

fn protobuf(body: &[u8]) -> Result<Value, Status> {
    crate::protobuf::decode(body).map_err(|error| Status::bad_request(error.to_string()))
}

/// An object of exactly this kind; apiVersion and kind are filled in where the body leaves them out.
pub(crate) fn object(call: &Call, group_version_kind: (&str, &str, &str)) -> Result<Value, Status> {
    object_of(call, group_version_kind, &[])
}

/// The same, which may come in the name of other versions that do not differ.
pub(crate) fn object_of(
    call: &Call,
    group_version_kind: (&str, &str, &str),
    others: &[&str],
) -> Result<Value, Status> {
    let (group, version, kind) = group_version_kind;
    let unrecognized = |status: Status| {
        let what = format!("the object provided is unrecognized (must be of type {kind})");
        Status { message: format!("{what}: {} ({})", status.message, go_json::summary(&call.body)), ..status }
    };
    let read = match any(call) {
        // Faults of other encodings have words of their own.
        Err(status) if status.code == 400 && matches!(format(call), Ok(Format::Json)) => {
            return Err(unrecognized(status));
        }
        other => other?,
    };
    let empty = "couldn't get version/kind; json parse error: unexpected end of JSON input";
    let mut object = read.ok_or_else(|| unrecognized(Status::bad_request(empty)))?;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let named = object["apiVersion"].as_str().unwrap_or_default();
    let found = if others.contains(&named) { api_version.clone() } else { named.to_owned() };
    let found_kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let (found_group, found_version) = found.rsplit_once('/').unwrap_or(("", &found));
    let refused = |why: String| {
        let (named, at) = (if found_kind.is_empty() { kind } else { &found_kind }, found_version);
        Err(Status::bad_request(format!("{named} in version {at:?} cannot be handled as a {kind}: {why}")))
    };
    let foreign =
        (!found.is_empty() && found != api_version) || (!found_kind.is_empty() && found_kind != kind);
    if foreign && !found.is_empty() && !schema::is_known(found_group, found_version, &found_kind) {
        return refused(format!("no kind {found_kind:?} is registered for version {found:?}"));
    }
    if !found_kind.is_empty() && found_kind != kind {
        let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
        let (from, to) = (format!("{found_version}.{found_kind}"), format!("{package}.{kind}"));
        return refused(format!("converting ({from}) to ({to}): unknown conversion"));
    }
    if foreign {
        let text = format!(
            "the API version in the data ({found}) does not match the expected API version ({api_version})"
        );
        return Err(Status::bad_request(text));
    }
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Ok(object)
}

/// What the schema of the kind says about an object: unknown fields are refused, warned of or dropped as
/// `fieldValidation` says; a value of the wrong type is refused always.
pub(crate) fn checked(call: &Call, object: Value) -> Result<(Value, Vec<String>), Status> {
    decoded(call, object).map_err(|error| Status::bad_request(error.to_string()))
}

/// The same with the fault as it was found.
pub(crate) fn decoded(call: &Call, object: Value) -> Result<(Value, Vec<String>), schema::DecodeError> {
    let strictness = match call.query.get("fieldValidation") {
        Some("Strict") => Strictness::Strict,
        Some("Ignore") => Strictness::Ignore,
        // Other values were refused before.
        _ => Strictness::Warn,
    };
    judged(call, object, strictness)
}

/// The same for who has a judgement of its own.
pub(crate) fn judged(
    call: &Call,
    object: Value,
    strictness: Strictness,
) -> Result<(Value, Vec<String>), schema::DecodeError> {
    let written = written(call, strictness);
    let resource = &call.resource;
    let (version, kind) = (&*resource.version, &*resource.kind);
    let decoded = match &resource.schema {
        Some(custom) => schema::decode_custom(version, kind, custom, object, written, strictness),
        None => schema::decode(&resource.group, version, kind, object, written, strictness),
    };
    decoded.map(|decoded| (decoded.object, decoded.warnings))
}

/// What the body of the request says more than once: that of a patch is not the object itself.
fn written(call: &Call, strictness: Strictness) -> Written<'_> {
    match content_type(call) {
        "" | "application/json" => Written::Json(&call.body),
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            Written::Faults(schema::duplicate_fields(&call.body))
        }
        "application/yaml" => {
            let lines = yaml::duplicates(&call.body);
            let all = || vec![yaml::complaint(&lines)];
            Written::Faults(if strictness == Strictness::Strict && !lines.is_empty() { all() } else { lines })
        }
        _ => Written::Faults(Vec::new()),
    }
}
