//! PATCH: the client sends a change, in one of the patch types, which is applied to the present object.

use super::super::change::{At, schema_of};
use super::super::read_body;
use super::super::{Call, Server};
use super::update::part;
use crate::registry::Resource;
use crate::server::Answer;
use knarr_api::patch::{self, PatchError};
use knarr_api::{Status, meta};
use serde_json::Value;

/// A patch, decoded.
#[derive(Debug, Clone)]
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl Patch {
    /// The body of a request, by its content type.
    pub(super) fn read(call: &Call) -> Result<Self, Status> {
        let body = || {
            serde_json::from_slice(&call.body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
        };
        match read_body::content_type(call) {
            JSON => Ok(Self::Json(body()?)),
            MERGE => Ok(Self::Merge(body()?)),
            STRATEGIC => Ok(Self::Strategic(body()?)),
            _ => Err(Status::unsupported_media_type(&format!("{JSON}, {MERGE}, {STRATEGIC}, {APPLY}"))),
        }
    }

    /// The object that the patch makes of `object`.
    pub(super) fn apply(&self, resource: &Resource, object: &Value) -> Result<Value, Status> {
        let patched = match self {
            Self::Json(operations) => patch::json::apply(object, operations),
            Self::Merge(fields) => patch::merge::apply(object, fields),
            Self::Strategic(fields) => {
                let schema = schema_of(resource)
                    .ok_or_else(|| Status::unsupported_media_type(&format!("{JSON}, {MERGE}, {APPLY}")))?;
                patch::strategic::apply(object, fields, Some(&*schema))
            }
        };
        patched.map_err(|error| match error {
            PatchError::Malformed(message) => Status::bad_request(message),
            PatchError::Inapplicable(message) => Status::unprocessable(message),
        })
    }
}

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    if read_body::content_type(call) == APPLY {
        return super::apply::run(server, call).await;
    }
    let resource = &call.resource;
    if call.query.get("force").is_some() {
        let message = "Forbidden: may not be specified for non-apply patch".to_owned();
        return Err(super::bad_option("PatchOptions", "force", "FieldValueForbidden", message));
    }
    let patch = Patch::read(call)?;
    let at = At { resource, namespace: call.path.namespace(), name: call.path.name() };
    let warnings = std::sync::Mutex::new(Vec::new());
    let change = |old: &Value| {
        let patched = patch.apply(resource, old)?;
        check_identity(&patched, old)?;
        let (patched, found) = read_body::checked(call, patched)?;
        *warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = found;
        Ok(patched)
    };
    let written = server.modify(at, part(call), &super::manner(call)?, change).await?;
    let warnings = warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    super::create::finish(call, written, &warnings)
}

/// A patch may not make another object of this one.
fn check_identity(patched: &Value, old: &Value) -> Result<(), Status> {
    if !patched.is_object() {
        return Err(Status::unprocessable("the patched object is no object"));
    }
    for field in ["apiVersion", "kind"] {
        if patched[field] != old[field] {
            let text =
                format!("the {field} of an object cannot be patched ({} to {})", old[field], patched[field]);
            return Err(Status::bad_request(text));
        }
    }
    let (found, name) = (meta::name(patched), meta::name(old));
    if found != name {
        let text = format!("the name of the object ({found}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(text));
    }
    Ok(())
}
