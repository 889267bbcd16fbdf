//! Policies and webhooks have a say in who gets into a pod, or through the server to a node or a service: they see the
//! options of the connection, as an object of their own kind, and may refuse. What they change in it counts for nothing.

use super::super::write_of;
use crate::admission::Operation;
use crate::server::{Call, Server};
use knarr_api::Status;
use serde_json::{Value, json};

pub(super) async fn ask(server: &Server, call: &Call) -> Result<(), Status> {
    let Some((kind, mut options)) = options(call) else { return Ok(()) };
    options["kind"] = kind.into();
    options["apiVersion"] = "v1".into();
    let write = write_of(call, Operation::Connect, ("", "v1", kind));
    server.admit_sent(write, &mut options).await.map(drop)
}

/// The kind of the options, and what they say. A log is read, not connected to.
fn options(call: &Call) -> Option<(&'static str, Value)> {
    Some(match (&*call.resource.plural, call.path.subresource()) {
        (_, "exec") => ("PodExecOptions", commanded(call)),
        (_, "attach") => ("PodAttachOptions", streams(call)),
        (_, "portforward") => ("PodPortForwardOptions", ports(call)),
        ("pods", "proxy") => ("PodProxyOptions", path(call)),
        ("services", "proxy") => ("ServiceProxyOptions", path(call)),
        ("nodes", "proxy") => ("NodeProxyOptions", path(call)),
        _ => return None,
    })
}

/// What is false or empty is not said.
fn streams(call: &Call) -> Value {
    let mut options = json!({});
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if call.query.flag(name) {
            options[name] = true.into();
        }
    }
    if let Some(container) = call.query.get("container") {
        options["container"] = container.into();
    }
    options
}

fn commanded(call: &Call) -> Value {
    let mut options = streams(call);
    options["command"] = call.query.all("command").collect::<Vec<&str>>().into();
    options
}

fn ports(call: &Call) -> Value {
    let ports = call.query.all("ports").flat_map(|ports| ports.split(','));
    let ports: Vec<u16> = ports.filter_map(|port| port.parse().ok()).collect();
    if ports.is_empty() { json!({}) } else { json!({"ports": ports}) }
}

fn path(call: &Call) -> Value {
    match call.path.rest.as_deref() {
        Some(rest) => json!({"path": format!("/{rest}")}),
        None => json!({}),
    }
}
