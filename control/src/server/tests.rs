//! The server as a client sees it: requests in, responses out, over a real store. One file per topic.

use super::*;
use crate::pki::{Pki, Subject};
use crate::store::Embedded;
use http_body_util::Full;
use serde_json::{Value, json};

mod access;
mod admission;
mod asked;
mod auditing;
mod bad_input;
mod bad_objects;
mod custom;
mod deletion;
mod health;
mod judgements;
mod lists;
mod mutating;
mod nodes;
mod objects;
mod policies;
mod protobuf;
mod recorded;
mod semantics;
mod streams;
mod subresources;
mod turns;
mod watches;
mod websockets;

/// A server with the bootstrap objects, in a directory of its own.
struct Lab {
    server: Arc<Server>,
    stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    pki: Pki,
    _directory: tempfile::TempDir,
}

/// A response, read to its end.
#[derive(Debug)]
struct Response {
    code: u16,
    headers: HeaderMap,
    body: Value,
}

/// Headers of a request that is not sent.
pub(super) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn lab() -> Lab {
    lab_with(None)
}

fn lab_with(audit: Option<&audit::AuditOptions>) -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pki = Pki::open(&directory.path().join("pki")).unwrap();
    let identity = pki.sign(&Subject { common_name: "server", organization: None, names: &[] }).unwrap();
    let (stop, shutdown) = watch::channel(false);
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store.redb")).unwrap());
    let server = server_on(store, &pki, &identity, audit, shutdown);
    server.aggregation.set_followed();
    let server = Arc::new(server);
    runtime.block_on(server.bootstrap("127.0.0.1:6443".parse().unwrap(), "ca")).unwrap();
    Lab { server, stop, runtime, pki, _directory: directory }
}

fn server_on(
    store: Arc<dyn Store>,
    pki: &Pki,
    identity: &crate::pki::Identity,
    audit: Option<&audit::AuditOptions>,
    shutdown: watch::Receiver<bool>,
) -> Server {
    Server {
        rbac: Arc::new(crate::authz::rbac::Rbac::new(store.clone())),
        flow_control: flow_control::FlowControl::new(store.clone()),
        audit: audit.map(|options| Arc::new(Audit::open(options).unwrap())),
        store,
        table: Table::builtin(),
        aggregation: Aggregation::new(&Pki::open_front_proxy(tempfile::tempdir().unwrap().path()).unwrap())
            .unwrap(),
        openapi: crate::openapi::Documents::default(),
        tokens: Tokens::new(Arc::new(crate::authn::service_account::Issuer::open(pki).unwrap())),
        addresses: ServiceAddresses::new("10.96.0.0/16").unwrap(),
        kubelets: Kubelets::new(identity).unwrap(),
        quotas: crate::admission::Quotas::default(),
        metrics: Metrics::default(),
        telemetry: Telemetry::default(),
        shutdown,
    }
}

impl Lab {
    fn send(&self, user: User, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let mut request = request.body(Full::new(Bytes::from(body))).unwrap();
        request.extensions_mut().insert(TransportUser(user));
        self.runtime.block_on(self.server.clone().handle(request))
    }

    /// By a client that takes certain types of answers only.
    fn send_for(&self, accept: &str, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let mut request = request.header("accept", accept).body(Full::new(Bytes::from(body))).unwrap();
        request.extensions_mut().insert(TransportUser(User::server()));
        self.runtime.block_on(self.server.clone().handle(request))
    }

    fn read(&self, answer: Answer) -> Response {
        let (parts, body) = answer.into_parts();
        let bytes = self.runtime.block_on(body.collect()).unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        Response { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn call(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Response {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.read(self.send(User::server(), method, path, content_type, body))
    }

    fn call_as(&self, user: User, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.read(self.send(user, method, path, "application/json", body))
    }

    fn get(&self, path: &str) -> Response {
        self.call("GET", path, "", &Value::Null)
    }

    fn post(&self, path: &str, body: &Value) -> Response {
        self.call("POST", path, "application/json", body)
    }

    fn put(&self, path: &str, body: &Value) -> Response {
        self.call("PUT", path, "application/json", body)
    }

    fn patch(&self, path: &str, kind: &str, body: &Value) -> Response {
        self.call("PATCH", path, &format!("application/{kind}-patch+json"), body)
    }

    fn delete(&self, path: &str, options: &Value) -> Response {
        self.call("DELETE", path, "application/json", options)
    }

    /// Creates a config map `name` with one datum; gives its revision.
    fn config_map(&self, name: &str, value: &str) -> String {
        let object = json!({"metadata": {"name": name, "labels": {"value": value}}, "data": {"a": value}});
        let created = self.post(CONFIG_MAPS, &object);
        assert_eq!(created.code, 201, "{created:?}");
        created.text("/metadata/resourceVersion")
    }
}

impl Response {
    fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn text(&self, pointer: &str) -> String {
        self.at(pointer).as_str().unwrap_or_default().to_owned()
    }

    /// Code and message of a refusal.
    fn refusal(&self) -> (u16, String) {
        assert_eq!(self.body["kind"], "Status", "{self:?}");
        (self.code, self.text("/message"))
    }

    fn names(&self) -> Vec<String> {
        let items = self.at("/items").as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}
