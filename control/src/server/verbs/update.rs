//! PUT: the client sends the whole new object.

use super::super::change::{At, Part};
use super::super::{Call, Server, object_meta, read_body};
use crate::server::Answer;
use knarr_api::{Status, StatusCause, meta};
use serde_json::Value;

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
    object_meta::require_name(&object, call.path.name())?;
    object_meta::check_name(&mut object, call.path.name())?;
    let at = At { resource, namespace: call.path.namespace(), name: call.path.name() };
    let change = |_: &Value| {
        require_version(call, &object)?;
        Ok(object.clone())
    };
    let manner = super::manner(call);
    let written = match server.modify(at, part(call), &manner, change).await {
        Err(status) if status.code == 404 && creates(call) && meta::uid(&object).is_empty() => {
            server.insert(resource, at.namespace, object, &manner).await?
        }
        other => other?,
    };
    super::create::finish(call, written, &warnings)
}

/// Groups of kinds, beside custom resources, that nobody may replace without knowing what he replaces.
const REPLACED_BY_VERSION: [&str; 3] = ["admissionregistration.k8s.io", "apiextensions.k8s.io", "policy"];

fn require_version(call: &Call, object: &Value) -> Result<(), Status> {
    let resource = &call.resource;
    let conditional = resource.custom.is_some() || REPLACED_BY_VERSION.contains(&&*resource.group);
    if !conditional || !matches!(meta::resource_version(object), "" | "0") {
        return Ok(());
    }
    let cause = StatusCause {
        reason: "FieldValueInvalid".into(),
        message: "Invalid value: 0x0: must be specified for an update".into(),
        field: "metadata.resourceVersion".into(),
    };
    Err(Status::invalid(&resource.group, &resource.kind, call.path.name(), vec![cause]))
}

/// Kinds whose PUT makes what is not there.
const CREATED_BY_UPDATE: [(&str, &str); 14] = [
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "podtemplates"),
    ("", "services"),
    ("apps", "controllerrevisions"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
];

fn creates(call: &Call) -> bool {
    let row = (&*call.resource.group, &*call.resource.plural);
    call.path.subresource.is_none() && CREATED_BY_UPDATE.contains(&row)
}
