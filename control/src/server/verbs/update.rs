//! PUT: the client sends the whole new object.

use super::super::change::{At, Part};
use super::super::{Call, Server, object_meta, read_body};
use crate::server::Answer;
use knarr_api::{Status, meta};

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
    let change = |_: &serde_json::Value| Ok(object.clone());
    let manner = super::manner(call);
    let written = match server.modify(at, part(call), &manner, change).await {
        Err(status) if status.code == 404 && creates(call) && meta::uid(&object).is_empty() => {
            server.insert(resource, at.namespace, object, &manner).await?
        }
        other => other?,
    };
    super::create::finish(call, written, &warnings)
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
