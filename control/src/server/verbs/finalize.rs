//! PUT namespaces/NAME/finalize: the namespace controller says that nothing of its kind is left. Only
//! `spec.finalizers` is taken from the body; the namespace goes when the last one has gone.

use super::super::change::{At, Part};
use super::super::{Call, Server, read_body};
use crate::server::Answer;
use knarr_api::Status;
use serde_json::Value;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let resource = &call.resource;
    let object = read_body::object(call, (&resource.group, &resource.version, &resource.kind))?;
    let at = At { resource, namespace: call.path.namespace(), name: call.path.name() };
    let change = |old: &Value| {
        let mut new = old.clone();
        let sent = knarr_api::meta::resource_version(&object);
        if !sent.is_empty() {
            knarr_api::meta::set(&mut new, "resourceVersion", sent);
        }
        new["spec"]["finalizers"] =
            object.pointer("/spec/finalizers").cloned().unwrap_or_else(|| serde_json::json!([]));
        Ok(new)
    };
    let written = server.modify(at, Part::Finalizers, &super::manner(call), change).await?;
    super::create::finish(call, written, &[])
}
