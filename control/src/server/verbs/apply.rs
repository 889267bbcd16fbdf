//! PATCH with an apply configuration: the client sends the fields it wants, and owns them from then on. The object is
//! created if it is not there.

use super::super::change::{At, Manner, Written, schema_of};
use super::super::{Call, Server, object_meta, read_body, yaml};
use super::update::part;
use crate::registry::Resource;
use crate::schema::Strictness;
use crate::server::Answer;
use knarr_api::patch::apply::{self, LAST_APPLIED, Writer};
use knarr_api::{Status, meta};
use serde_json::{Value, json};

/// Attempts when the object keeps coming and going.
const MAX_ATTEMPTS: usize = 8;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let writer = super::writer(call);
    let (mut config, warnings) = configuration(call)?;
    leave_out_what_is_written_elsewhere(call, &mut config);
    let manner = Manner { writer: None, ..super::manner(call) };
    let mut last = Status::internal("apply was not tried");
    for _ in 0..MAX_ATTEMPTS {
        match attempt(server, call, &config, &writer, &manner).await {
            // Created by somebody else between our two looks.
            Err(status) if status.reason == "AlreadyExists" => last = status,
            other => return super::create::finish(call, other?, &warnings),
        }
    }
    Err(last)
}

async fn attempt(
    server: &Server,
    call: &Call,
    config: &Value,
    writer: &Writer,
    manner: &Manner,
) -> Result<Written, Status> {
    let resource = &call.resource;
    let at = At { resource, namespace: call.path.namespace(), name: call.path.name() };
    let force = call.query.flag("force");
    let merged = |live: &Value| {
        let known = meta::resource_version(config);
        if !known.is_empty() && !live.is_null() && known != meta::resource_version(live) {
            return Err(Status::modified(&resource.group, &resource.plural, at.name));
        }
        let mut merged = apply::apply(live, config, writer, force, schema_of(resource))
            .map_err(|conflict| Status::apply_conflict(conflict.message, conflict.causes))?;
        note_for_kubectl(call, writer, &mut merged)?;
        Ok(merged)
    };
    match server.modify(at, part(call), manner, merged).await {
        Err(status) if status.code == 404 && call.path.subresource.is_none() => {
            if !meta::uid(config).is_empty() {
                let uid = meta::uid(config);
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Status::conflict(&resource.group, &resource.plural, at.name, &why));
            }
            // Who makes an object says what it is called.
            object_meta::require_name(&yaml::read(&call.body)?, at.name)?;
            server.insert(resource, at.namespace, merged(&Value::Null)?, manner).await
        }
        other => other,
    }
}

/// The status is written through its own path, and nothing but it: what an object shows beside is not its sender's.
fn leave_out_what_is_written_elsewhere(call: &Call, config: &mut Value) {
    let has_status = call.resource.subresource("status").is_some();
    let other = match call.path.subresource() {
        "" if has_status => "status",
        "status" => "spec",
        _ => return,
    };
    if let Some(config) = config.as_object_mut() {
        config.remove(other);
    }
}

/// The configuration: YAML or JSON of the kind that the path names, checked against its schema.
pub(super) fn configuration(call: &Call) -> Result<(Value, Vec<String>), Status> {
    let resource = &call.resource;
    let mut config = yaml::read(&call.body)?;
    if config.is_null() {
        config = json!({});
    }
    if !config.is_object() {
        let found = knarr_api::json_kind(&config);
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    if config
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let (kind, api_version) = (config["kind"].as_str(), config["apiVersion"].as_str());
    if kind != Some(&*resource.kind) || api_version != Some(&resource.api_version()) {
        let (group, version) = grouped(api_version.unwrap_or_default());
        let text = format!("invalid object type: {group}/{version}, Kind={}", kind.unwrap_or_default());
        return Err(Status::bad_request(text));
    }
    let named = format!("{}/{}", meta::namespace(&config), meta::name(&config));
    object_meta::place(&mut config, resource, call.path.namespace())?;
    object_meta::check_name(&mut config, call.path.name())?;
    let mistyped = match resource.schema {
        Some(_) => Vec::new(),
        None => super::typed::faults(&resource.group, &resource.version, &resource.kind, &config),
    };
    if !mistyped.is_empty() {
        return Err(untyped(resource, &named, &mistyped));
    }
    let judged = read_body::judged(call, config, Strictness::Warn);
    let (config, unknown) = judged.map_err(|error| Status::bad_request(error.to_string()))?;
    // Whoever owns fields must name those that there are, whatever `fieldValidation` says of them.
    let path =
        |warning: &String| Some(warning.strip_prefix("unknown field \"")?.trim_end_matches('"').to_owned());
    let undeclared = unknown.iter().filter_map(path).min();
    let mut faults: Vec<String> =
        undeclared.iter().map(|path| format!(".{path}: field not declared in schema")).collect();
    faults.extend(apply::ambiguities(&config, schema_of(resource)));
    if !faults.is_empty() {
        return Err(untyped(resource, &named, &faults));
    }
    Ok((config, said_twice(call)?.into_iter().chain(unknown).collect()))
}

/// The warnings of fields that have several values.
fn said_twice(call: &Call) -> Result<Vec<String>, Status> {
    match (call.query.get("fieldValidation"), yaml::duplicates(&call.body)) {
        (Some("Ignore"), _) => Ok(Vec::new()),
        (Some("Strict"), lines) if !lines.is_empty() => {
            let complaint = yaml::complaint(&lines);
            let words = "error strict decoding YAML: error converting YAML to JSON:";
            Err(Status::bad_request(format!("{words} {complaint}")))
        }
        (_, lines) => Ok(lines),
    }
}

/// The configuration cannot be taken apart into fields that are owned.
fn untyped(resource: &Resource, named: &str, faults: &[String]) -> Status {
    let (group, version, kind) = (&*resource.group, &*resource.version, &*resource.kind);
    let group_version = if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") };
    let faults = match faults {
        [only] => only.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    Status::unexplained(format!(
        "failed to create typed patch object ({named}; {group_version}, Kind={kind}): {faults}"
    ))
}

/// `kubectl apply` without `--server-side` compares with what it applied last, which stands in an annotation of the
/// object: it is kept true, so that people can go back and forth.
fn note_for_kubectl(call: &Call, writer: &Writer, object: &mut Value) -> Result<(), Status> {
    let kubectl = writer.manager == "kubectl" && writer.subresource.is_empty();
    if !kubectl || meta::annotation(object, LAST_APPLIED).is_none() {
        return Ok(());
    }
    let mut sent = yaml::read(&call.body)?;
    if let Some(annotations) = sent.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    object["metadata"]["annotations"][LAST_APPLIED] = format!("{sent}\n").into();
    Ok(())
}

/// Group and version of an apiVersion.
fn grouped(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
