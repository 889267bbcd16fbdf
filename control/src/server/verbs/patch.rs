//! PATCH: the client sends a change, in one of the patch types, which is applied to the present object.

use super::super::change::{At, schema_of};
use super::super::{Call, Server, go_json, object_meta, read_body};
use super::update::part;
use crate::registry::Resource;
use crate::server::Answer;
use knarr_api::patch::{self, PatchError};
use knarr_api::{Status, StatusCause, meta};
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
pub(super) const APPLY: &str = "application/apply-patch+yaml";

impl Patch {
    /// The body of a request, by its content type.
    pub(super) fn read(call: &Call) -> Result<Self, Status> {
        let body = |prefix: &str| {
            serde_json::from_slice(&call.body).map_err(|error| {
                let fault = go_json::fault(&call.body, &error);
                Status::bad_request(format!("{prefix}{fault}"))
            })
        };
        let decoding = "error decoding patch: ";
        match read_body::content_type(call) {
            JSON => Ok(Self::Json(body(decoding)?)),
            MERGE => Ok(Self::Merge(body(decoding)?)),
            STRATEGIC => Ok(Self::Strategic(body("")?)),
            _ => Err(Status::unsupported_media_type(&format!("{JSON}, {MERGE}, {STRATEGIC}, {APPLY}"))),
        }
    }

    /// What a message shows of it: the patch where it is a map of fields, else what it made.
    fn shown(&self, patched: &Value) -> String {
        match self {
            Self::Strategic(fields) => go_json::printed(fields),
            Self::Json(_) | Self::Merge(_) => patched.to_string(),
        }
    }

    /// The object that the patch makes of `object`.
    pub(super) fn apply(&self, resource: &Resource, object: &Value) -> Result<Value, Status> {
        let patched = match self {
            Self::Json(operations) => patch::json::apply(object, operations),
            Self::Merge(fields) => patch::merge::apply(object, fields),
            Self::Strategic(fields) => {
                // Authors of custom resources do not say how patches are merged.
                let schema = schema_of(resource)
                    .filter(|_| resource.schema.is_none())
                    .ok_or_else(|| Status::unsupported_media_type(&format!("{JSON}, {MERGE}, {APPLY}")))?;
                patch::strategic::apply(object, fields, Some(&*schema))
            }
        };
        patched.map_err(|error| match error {
            PatchError::Malformed(message) => Status::bad_request(message),
            // Kubernetes keeps what was wrong to itself.
            PatchError::Inapplicable(_) if matches!(self, Self::Json(_)) => {
                Status::unprocessable("the server rejected our request due to an error in our request")
            }
            PatchError::Inapplicable(message) => Status::unprocessable(message),
        })
    }
}

impl Patch {
    /// The same, if it still is that object and one of its kind; and what the client should be told of it.
    pub(super) fn checked(&self, call: &Call, old: &Value) -> Result<(Value, Vec<String>), Status> {
        let patched = self.apply(&call.resource, old)?;
        check_identity(&call.resource, &patched, old)?;
        let sent = self.shown(&patched);
        read_body::decoded(call, patched).map_err(|error| match self {
            Self::Strategic(_) => unfit(&sent, error.restored()),
            Self::Json(_) | Self::Merge(_) => unfit(&sent, error.detail()),
        })
    }
}

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    if read_body::content_type(call) == APPLY {
        return super::apply::run(server, call).await;
    }
    let resource = &call.resource;
    let patch = Patch::read(call)?;
    let at = At { resource, namespace: call.path.namespace(), name: call.path.name() };
    let warnings = std::sync::Mutex::new(Vec::new());
    let change = |old: &Value| {
        let (patched, found) = patch.checked(call, old)?;
        *warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = found;
        Ok(patched)
    };
    let written = server.modify(at, part(call), &super::manner(call), change).await?;
    let warnings = warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    super::create::finish(call, written, &warnings)
}

/// The object that comes of a patch is none of its kind.
fn unfit(sent: &str, why: &str) -> Status {
    let message = format!("Invalid value: {sent:?}: {why}");
    let cause = StatusCause { reason: "FieldValueInvalid".into(), message, field: "patch".into() };
    Status::invalid("", "", "", vec![cause])
}

/// A patch may not make another object of this one.
fn check_identity(resource: &Resource, patched: &Value, old: &Value) -> Result<(), Status> {
    if !patched.is_object() {
        return Err(Status::unprocessable("the patched object is no object"));
    }
    let name = meta::name(old);
    object_meta::require_name(patched, name)?;
    for field in ["apiVersion", "kind"] {
        if patched[field] != old[field] {
            let text =
                format!("the {field} of an object cannot be patched ({} to {})", old[field], patched[field]);
            return Err(Status::bad_request(text));
        }
    }
    let found = meta::name(patched);
    if found != name {
        let text = format!("the name of the object ({found}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(text));
    }
    let namespace = meta::namespace(patched);
    if !namespace.is_empty() && namespace != meta::namespace(old) {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(text));
    }
    let uid = meta::uid(patched);
    if !uid.is_empty() && uid != meta::uid(old) {
        let message = format!("Invalid value: {uid:?}: field is immutable");
        let cause = StatusCause { reason: "FieldValueInvalid".into(), message, field: "metadata.uid".into() };
        return Err(Status::invalid(&resource.group, &resource.kind, name, vec![cause]));
    }
    Ok(())
}
