//! PUT: the client sends the whole new object.

use super::super::change::{At, Part};
use super::super::{Call, Server, object_meta, read_body};
use crate::server::Answer;
use knarr_api::Status;

/// Which part of the object a subresource is.
pub(super) fn part(call: &Call) -> Part {
    match call.path.subresource() {
        "status" => Part::Status,
        "approval" => Part::Named("approval"),
        "ephemeralcontainers" => Part::Named("ephemeralcontainers"),
        "resize" => Part::Named("resize"),
        _ => Part::Main,
    }
}

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let resource = &call.resource;
    let object = read_body::object(call, (&resource.group, &resource.version, &resource.kind))?;
    let (mut object, warnings) = read_body::checked(call, object)?;
    object_meta::place(&mut object, resource, call.path.namespace())?;
    object_meta::check_name(&mut object, call.path.name())?;
    let at = At { resource, namespace: call.path.namespace(), name: call.path.name() };
    let change = |_: &serde_json::Value| Ok(object.clone());
    let written = server.modify(at, part(call), &super::manner(call)?, change).await?;
    super::create::finish(call, written, &warnings)
}
