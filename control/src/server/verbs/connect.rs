//! Subresources that are connections to a node: log, exec, attach, portforward and proxy. The server checks the
//! request, finds the agent, and then passes bytes on, whether they are WebSocket or SPDY. Only the links of pages
//! that come through a proxy change on their way, and a log is told over a WebSocket if that is how it was asked for.

use super::super::change::At;
use super::super::query::percent_encode;
use super::super::{Call, Server, answer, forward, stored, websocket};
use crate::server::Answer;
use crate::server::kubelet::connect_plainly;
use http::{HeaderName, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use knarr_api::Status;
use links::Links;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

mod admission;
mod html;
mod links;
mod log_options;
mod log_refusal;
mod page;
mod target;

/// What is passed on to a node.
pub(crate) const SUBRESOURCES: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];

/// Where a request goes.
struct Backend {
    address: IpAddr,
    port: u16,
    link: Link,
    /// Path and query at the other side.
    path: String,
}

/// How the other side is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Plain,
    Tls,
    /// TLS with the certificate by which agents know the server.
    Agent,
}

pub(super) async fn run(server: &Server, mut call: Call, upgrade: OnUpgrade) -> Result<Answer, Status> {
    admission::ask(server, &mut call).await?;
    let backend = match (&*call.resource.plural, call.path.subresource()) {
        ("pods", "proxy") => target::pod(server, &call).await?,
        ("services", "proxy") => target::service(server, &call).await?,
        ("nodes", "proxy") => target::node(server, &call).await?,
        ("pods", subresource) => match pod_stream(server, &call, subresource).await? {
            Some(backend) => backend,
            None => return Ok(nothing_yet()),
        },
        _ => return Err(Status::no_such_resource()),
    };
    if let Some(redirect) = to_the_root(&call)? {
        return Ok(redirect);
    }
    match call.path.subresource() {
        "log" => log(server, &call, &backend, upgrade).await,
        _ => reach(server, &call, &backend, Some(upgrade)).await,
    }
}

/// The node's answer is a plain one, which is told in messages if that is how it was asked for; a refusal never is.
async fn log(server: &Server, call: &Call, backend: &Backend, upgrade: OnUpgrade) -> Result<Answer, Status> {
    let is_told = websocket::is_asked(&call.headers);
    let agreed = is_told.then(|| websocket::for_bytes(&call.headers)).transpose()?;
    let log = reach(server, call, backend, None).await?;
    match agreed {
        Some(agreed) if log.status() == StatusCode::OK => websocket::tell(agreed, log.into_body(), upgrade),
        _ => log_refusal::explained(log, call.path.name()).await,
    }
}

async fn reach(
    server: &Server,
    call: &Call,
    backend: &Backend,
    upgrade: Option<OnUpgrade>,
) -> Result<Answer, Status> {
    let request = outgoing(call, backend)?;
    let answer = match backend.link {
        Link::Plain => {
            let stream = connect_plainly(backend.address, backend.port).await?;
            forward(stream, request, upgrade).await
        }
        Link::Tls => {
            let stream = server.kubelets.connect_service(backend.address, backend.port).await?;
            forward(stream, request, upgrade).await
        }
        Link::Agent => {
            let stream = server.kubelets.connect(backend.address, backend.port).await;
            let stream = stream.map_err(|why| unreached(call, backend, &why))?;
            forward(stream, request, upgrade).await
        }
    }?;
    let is_page = call.path.subresource() == "proxy" && answer.status() != StatusCode::SWITCHING_PROTOCOLS;
    Ok(if is_page { page::through_proxy(answer, links(call, backend)) } else { answer })
}

/// An agent that is not there, as Kubernetes tells of it: by how it would have been spoken to.
fn unreached(call: &Call, backend: &Backend, why: &str) -> Status {
    match call.path.subresource() {
        "log" => Status::unexplained(format!("Get \"https://{}{}\": {why}", backend.host(), backend.path)),
        "proxy" if !call.headers.contains_key(header::UPGRADE) => {
            Status::unavailable(format!("error trying to reach service: {why}"))
        }
        _ => Status::unexplained(format!("error dialing backend: {why}")),
    }
}

/// Relative links of the target's first page are right only below `.../proxy/`.
fn to_the_root(call: &Call) -> Result<Option<Answer>, Status> {
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    let at_root = call.path.subresource() == "proxy" && call.path.rest.is_none();
    if !at_root || !reads || call.headers.contains_key(header::UPGRADE) {
        return Ok(None);
    }
    let query = if call.query.raw.is_empty() { String::new() } else { format!("?{}", call.query.raw) };
    let location = format!("{}/{query}", proxy_prefix(call)).parse().map_err(Status::internal)?;
    let mut answer = Response::new(answer::full(bytes::Bytes::new()));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(header::LOCATION, location);
    Ok(Some(answer))
}

/// The path of the proxy subresource; the names in it are encoded, so that no link is more than a link.
fn proxy_prefix(call: &Call) -> String {
    let encoded = |text: &str| percent_encode(text).replace("%3A", ":");
    let namespace =
        call.path.namespace.iter().map(|name| format!("namespaces/{}/", encoded(name))).collect::<String>();
    let (version, plural, name) = (&call.path.version, &call.path.plural, call.path.name());
    format!("/api/{version}/{namespace}{plural}/{}/proxy", encoded(name))
}

fn links(call: &Call, backend: &Backend) -> Links {
    let client = call.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    Links { prefix: proxy_prefix(call), target: backend.host(), client }
}

impl Backend {
    fn host(&self) -> String {
        SocketAddr::new(self.address, self.port).to_string()
    }
}

async fn pod(server: &Server, call: &Call, name: &str) -> Result<Value, Status> {
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name };
    Ok(stored::decode(at.resource, &*server.entry(at).await?))
}

/// A log that nobody writes yet is empty.
fn nothing_yet() -> Answer {
    let mut answer = Response::new(answer::full(bytes::Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// log, exec, attach and portforward: a path of the kubelet API; nothing for the log of a pod that has no node yet.
async fn pod_stream(server: &Server, call: &Call, subresource: &str) -> Result<Option<Backend>, Status> {
    let name = call.path.name();
    if subresource == "log" {
        log_options::check(call)?;
    }
    let pod = pod(server, call, name).await?;
    let container = if subresource == "portforward" { String::new() } else { container(&pod, call)? };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() && subresource == "log" {
        return Ok(None);
    }
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let (address, port) = server.kubelet_address(node).await?;
    let namespace = call.path.namespace();
    let path = match subresource {
        "log" => format!("/containerLogs/{namespace}/{name}/{container}?{}", pass(call, LOG_PARAMETERS)),
        "exec" => format!("/exec/{namespace}/{name}/{container}?{}", stream_parameters(call)),
        "attach" => format!("/attach/{namespace}/{name}/{container}?{}", stream_parameters(call)),
        _ => format!("/portForward/{namespace}/{name}?{}", ports(call)),
    };
    Ok(Some(Backend { address, port, link: Link::Agent, path }))
}

/// The container that is meant: named, or the only one.
fn container(pod: &Value, call: &Call) -> Result<String, Status> {
    let names = |field: &str| {
        let list = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(|container| container["name"].as_str());
        list.map(str::to_owned).collect::<Vec<String>>()
    };
    let name = call.path.name();
    let (own, init) = (names("containers"), names("initContainers"));
    match call.query.get("container") {
        Some(wanted) => {
            let known =
                own.iter().chain(&init).chain(&names("ephemeralContainers")).any(|name| name == wanted);
            if known {
                Ok(wanted.to_owned())
            } else {
                Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
            }
        }
        None => match own.as_slice() {
            [only] => Ok(only.clone()),
            _ => {
                let mut text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    own.join(" ")
                );
                if !init.is_empty() {
                    text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        },
    }
}

const LOG_PARAMETERS: &[&str] =
    &["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];

/// The named parameters as they came.
fn pass(call: &Call, names: &[&str]) -> String {
    let pair = |name: &str, value: &str| format!("{name}={}", percent_encode(value));
    let pairs = names.iter().flat_map(|name| call.query.all(name).map(|value| pair(name, value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The kubelet asks for `port`, clients for `ports`, several of them also in one, with commas between.
fn ports(call: &Call) -> String {
    let ports = call.query.all("ports").flat_map(|ports| ports.split(','));
    ports.map(|port| format!("port={}", percent_encode(port))).collect::<Vec<_>>().join("&")
}

/// The kubelet's names of the parameters of exec and attach.
fn stream_parameters(call: &Call) -> String {
    let mut pairs: Vec<String> =
        call.query.all("command").map(|value| format!("command={}", percent_encode(value))).collect();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if call.query.flag(ours) {
            pairs.push(format!("{theirs}=1"));
        }
    }
    pairs.join("&")
}

/// Headers that belong to one connection, and those by which the client proved who it is: not the node's business.
const DROPPED: [HeaderName; 5] =
    [header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TE];

fn outgoing(call: &Call, backend: &Backend) -> Result<Request<Full<bytes::Bytes>>, Status> {
    let uri: Uri =
        backend.path.parse().map_err(|error| Status::bad_request(format!("proxy path: {error}")))?;
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    let upgrades = call.headers.contains_key(header::UPGRADE) && call.path.subresource() != "log";
    for (name, value) in &call.headers {
        let of_upgrade = name.as_str().starts_with("sec-websocket-");
        let hop = !upgrades && (of_upgrade || matches!(*name, header::CONNECTION | header::UPGRADE));
        if !hop && !DROPPED.contains(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    let host = backend.host().parse().map_err(Status::internal)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}
