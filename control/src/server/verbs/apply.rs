//! PATCH with an apply configuration: the client sends the fields it wants, and owns them from then on. The object is
//! created if it is not there.

use super::super::change::{At, Manner, Written, schema_of};
use super::super::{Call, Server, go_json, object_meta, read_body};
use super::update::part;
use crate::schema::Strictness;
use crate::server::Answer;
use knarr_api::patch::apply::{self, Writer};
use knarr_api::{Status, meta};
use serde_json::{Value, json};

/// Attempts when the object keeps coming and going.
const MAX_ATTEMPTS: usize = 8;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let writer = super::writer(call);
    let (config, warnings) = configuration(call)?;
    let manner = Manner { dry_run: super::dry_run(call), writer: None, by: Some(call.user.clone()) };
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
        apply::apply(live, config, writer, force, schema_of(resource))
            .map_err(|conflict| Status::apply_conflict(conflict.message, conflict.causes))
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
            server.insert(resource, at.namespace, merged(&Value::Null)?, manner).await
        }
        other => other,
    }
}

/// The configuration: YAML or JSON of the kind that the path names, checked against its schema.
fn configuration(call: &Call) -> Result<(Value, Vec<String>), Status> {
    let resource = &call.resource;
    let mut config = read_body::yaml(&call.body)?;
    if config.is_null() {
        config = json!({});
    }
    if !config.is_object() {
        let found = go_json::kind(&config);
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
    let named = format!("{}/{}", meta::namespace(&config), call.path.name());
    object_meta::place(&mut config, resource, call.path.namespace())?;
    object_meta::check_name(&mut config, call.path.name())?;
    let judged = read_body::judged(call, config, Strictness::Warn);
    let (config, unknown) = judged.map_err(|error| Status::bad_request(error.to_string()))?;
    // Whoever owns fields must name those that there are, whatever `fieldValidation` says of them.
    let path =
        |warning: &String| Some(warning.strip_prefix("unknown field \"")?.trim_end_matches('"').to_owned());
    match unknown.iter().filter_map(path).min() {
        None => Ok((config, unknown)),
        Some(path) => {
            let (group, version) = (&*resource.group, &*resource.version);
            Err(Status::unexplained(format!(
                "failed to create typed patch object ({named}; {}, Kind={}): .{path}: field not declared in schema",
                if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") },
                resource.kind
            )))
        }
    }
}

/// Group and version of an apiVersion.
fn grouped(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
