//! `/exec`, `/attach` and `/portForward`: the runtime hands out a URL of its streaming server, and the client's request
//! goes on to it as it is.

use super::query::Query;
use super::respond::{Body, Refusal};
use super::{Shared, containers, upgrade};
use http::{Request, Response};
use hyper::body::Incoming;
use knarr_cri::v1;

/// The names of the API server's kubelet client, and those of kubectl.
const STDIN: &[&str] = &["input", "stdin"];
const STDOUT: &[&str] = &["output", "stdout"];
const STDERR: &[&str] = &["error", "stderr"];
const TTY: &[&str] = &["tty"];

pub(super) async fn exec(
    shared: &Shared,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let cmd = query.all("command");
    if cmd.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    let container = containers::running(shared, namespace, pod, container).await?;
    let exec = v1::ExecRequest {
        container_id: container.id,
        cmd,
        tty: query.flag(TTY),
        stdin: query.flag(STDIN),
        stdout: query.flag(STDOUT),
        stderr: query.flag(STDERR) && !query.flag(TTY),
    };
    let url = shared.runtime.exec(exec).await?.url;
    upgrade::pass_on(request, &url).await
}

pub(super) async fn attach(
    shared: &Shared,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let container = containers::running(shared, namespace, pod, container).await?;
    let attach = v1::AttachRequest {
        container_id: container.id,
        tty: query.flag(TTY),
        stdin: query.flag(STDIN),
        stdout: query.flag(STDOUT),
        stderr: query.flag(STDERR) && !query.flag(TTY),
    };
    let url = shared.runtime.attach(attach).await?.url;
    upgrade::pass_on(request, &url).await
}

pub(super) async fn port_forward(
    shared: &Shared,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let pod_sandbox_id = containers::sandbox(shared, namespace, pod).await?;
    let port = |text: String| {
        text.parse().map_err(|_| Refusal::bad_request(format!("port: {text:?}: not a number")))
    };
    let port = query.all("port").into_iter().map(port).collect::<Result<_, _>>()?;
    let forward = v1::PortForwardRequest { pod_sandbox_id, port };
    let url = shared.runtime.port_forward(forward).await?.url;
    upgrade::pass_on(request, &url).await
}
