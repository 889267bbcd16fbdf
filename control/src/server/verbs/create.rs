//! POST of a new object.

use super::super::{Call, Server, answer, change, object_meta, read_body};
use crate::server::Answer;
use knarr_api::Status;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let resource = &call.resource;
    if call.path.name.is_some() {
        return Err(Status::unknown_method());
    }
    let object = read_body::object(call, (&resource.group, &resource.version, &resource.kind))?;
    let (mut object, warnings) = read_body::checked(call, object)?;
    object_meta::place(&mut object, resource, call.path.namespace())?;
    let written = server.insert(resource, call.path.namespace(), object, &super::manner(call)).await?;
    finish(call, written, &warnings)
}

/// 201 for a new object, 200 for a changed one, and the warnings about what was sent.
pub(super) fn finish(call: &Call, written: change::Written, warnings: &[String]) -> Result<Answer, Status> {
    let mut answer = answer::object(call, if written.created { 201 } else { 200 }, written.bytes.clone())?;
    answer::warn(&mut answer, warnings);
    answer::warn(&mut answer, &written.warnings);
    Ok(answer)
}
