//! Policies and webhooks have a say in who gets into a pod, or through the server to a node or a service: they see the
//! options of the connection, as an object of their own kind, and may refuse it or change them.

use super::super::write_of;
use crate::admission::Operation;
use crate::server::query::{Query, percent_encode};
use crate::server::{Call, Server};
use knarr_api::Status;
use serde_json::{Value, json};

pub(super) async fn ask(server: &Server, call: &mut Call) -> Result<(), Status> {
    let Some((kind, mut options)) = options(call) else { return Ok(()) };
    options["kind"] = kind.into();
    options["apiVersion"] = "v1".into();
    let sent = options.clone();
    server.admit_sent(write_of(call, Operation::Connect, ("", "v1", kind)), &mut options).await?;
    if options != sent {
        take_over(call, &options);
    }
    Ok(())
}

/// Goes on as if the client had asked for what the options say now.
fn take_over(call: &mut Call, options: &Value) {
    if let Some(path) = options["path"].as_str() {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        call.path.rest = Some(path.trim_start_matches('/').to_owned());
        if !query.is_empty() {
            call.query = Query::parse(query);
        }
        return;
    }
    call.query = Query::parse(&query_of(options));
}

/// The parameters that say the same as options of exec, attach or port-forward.
fn query_of(options: &Value) -> String {
    let one = |name: &str, value: &str| format!("{name}={}", percent_encode(value));
    let mut pairs: Vec<String> = Vec::new();
    for name in ["stdin", "stdout", "stderr", "tty"] {
        pairs.extend((options[name] == true).then(|| one(name, "true")));
    }
    pairs.extend(options["container"].as_str().map(|name| one("container", name)));
    let command = options["command"].as_array().into_iter().flatten();
    pairs.extend(command.filter_map(Value::as_str).map(|part| one("command", part)));
    let ports = options["ports"].as_array().into_iter().flatten();
    pairs.extend(ports.map(|port| one("ports", &port.to_string())));
    pairs.join("&")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_parameters_again() {
        let exec = json!({"stdout": true, "tty": false, "container": "c", "command": ["sh", "-c", "a b"]});
        assert_eq!(query_of(&exec), "stdout=true&container=c&command=sh&command=-c&command=a%20b");
        assert_eq!(query_of(&json!({"ports": [80, 81]})), "ports=80&ports=81");
    }
}
