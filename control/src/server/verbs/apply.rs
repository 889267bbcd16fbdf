//! PATCH with an apply configuration: the client sends the fields it wants, and owns them from then on. The object is
//! created if it is not there.

use super::super::change::{At, Manner, Written, schema_of};
use super::super::{Call, Server, object_meta, read_body};
use super::update::part;
use crate::server::Answer;
use knarr_api::patch::apply::{self, Writer};
use knarr_api::{Status, StatusCause, meta};
use serde_json::Value;

/// Attempts when the object keeps coming and going.
const MAX_ATTEMPTS: usize = 8;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let writer = writer(call)?;
    let (config, warnings) = configuration(call)?;
    let manner = Manner { dry_run: super::dry_run(call)?, writer: None, by: Some(call.user.clone()) };
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
                let why =
                    "uid mismatch: the provided object specified a uid, and no existing object was found";
                return Err(Status::conflict(&resource.group, &resource.plural, at.name, why));
            }
            server.insert(resource, at.namespace, merged(&Value::Null)?, manner).await
        }
        other => other,
    }
}

fn writer(call: &Call) -> Result<Writer, Status> {
    if call.query.get("fieldManager").is_none() {
        let message = "Required value: is required for apply patch".to_owned();
        let cause =
            StatusCause { reason: "FieldValueRequired".into(), message, field: "fieldManager".into() };
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]));
    }
    super::writer(call)
}

/// The configuration: YAML or JSON of the kind that the path names, checked against its schema.
fn configuration(call: &Call) -> Result<(Value, Vec<String>), Status> {
    let resource = &call.resource;
    let mut config = read_body::yaml(&call.body)?;
    if !config.is_object() {
        return Err(Status::bad_request("an apply configuration must be an object"));
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
        let text = format!(
            "the configuration is of {} {}, the path of {} {}",
            api_version.unwrap_or_default(),
            kind.unwrap_or_default(),
            resource.api_version(),
            resource.kind
        );
        return Err(Status::bad_request(text));
    }
    object_meta::place(&mut config, resource, call.path.namespace())?;
    object_meta::check_name(&mut config, call.path.name())?;
    read_body::checked(call, config)
}
