//! An API server of one kind, boats, to stand behind another one: it keeps them in memory, believes only who shows a
//! certificate of the authority it was given, and writes down for whom that one asked. It also claims to know the usage of
//! a node, the length of a queue and the hits of a service, as those do that are installed for that.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{StreamExt as _, iter};

pub(crate) const GROUP: &str = "ships.example.com";
const USAGE: &str = "metrics.k8s.io";
const OUTSIDE: &str = "external.metrics.k8s.io";
const CUSTOM: &str = "custom.metrics.k8s.io";

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The server; it ends with this.
pub(crate) struct Behind {
    _runtime: tokio::runtime::Runtime,
}

struct Fleet {
    /// By namespace and name.
    boats: Mutex<BTreeMap<(String, String), Value>>,
    revision: Mutex<u64>,
    events: broadcast::Sender<Value>,
}

impl Behind {
    /// Serves at `port` with a certificate, to those who show one that `clients` has signed (all of them PEM).
    pub(crate) fn start(port: u16, certificate: &str, key: &str, clients: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate, key, clients)));
        let fleet =
            Fleet { boats: Mutex::default(), revision: Mutex::new(1), events: broadcast::channel(100).0 };
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).expect("listen");
        runtime.spawn(serve(listener, acceptor, Arc::new(fleet)));
        Self { _runtime: runtime }
    }
}

fn config(certificate: &str, key: &str, clients: &str) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(clients.as_bytes()) {
        roots.add(root.expect("a certificate")).expect("an authority");
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_client_cert_verifier(verifier.build().expect("a verifier"));
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(|one| one.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(chain.collect(), key).expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, fleet: Arc<Fleet>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, fleet) = (acceptor.clone(), fleet.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let fleet = fleet.clone();
                async move { Ok::<_, Infallible>(fleet.answer(request).await) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no concern of this server.
            drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
        });
    }
}

fn said(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(body).expect("an answer")
}

fn not_found(name: &str) -> Answer {
    said(
        404,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": format!("boats.{GROUP} {name:?} not found")}),
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let watches = parts.uri.query().is_some_and(|query| query.contains("watch="));
        match (&parts.method, path.as_slice()) {
            (_, ["apis", GROUP, "v1"]) => said(200, &resources()),
            (_, ["apis", USAGE, "v1beta1"]) => said(200, &usage_resources()),
            (_, ["apis", USAGE, "v1beta1", "nodes"]) => said(200, &usage()),
            (_, ["apis", OUTSIDE, "v1beta1"]) => said(200, &kinds_of_metrics(OUTSIDE, "v1beta1")),
            (_, ["apis", OUTSIDE, "v1beta1", "namespaces", _, "queue"]) => {
                said(200, &queue(parts.uri.query()))
            }
            (_, ["apis", CUSTOM, "v1beta2"]) => said(200, &kinds_of_metrics(CUSTOM, "v1beta2")),
            (_, ["apis", CUSTOM, "v1beta2", "namespaces", _, "services", "front", "hits"]) => {
                said(200, &hits())
            }
            (_, ["openapi", "v2"]) => said(200, &openapi()),
            (&Method::GET, ["apis", GROUP, "v1", "boats"]) if watches => self.watch(),
            (&Method::GET, ["apis", GROUP, "v1", "boats"]) => self.list(""),
            (&Method::GET, ["apis", GROUP, "v1", "namespaces", _, "boats"]) if watches => self.watch(),
            (&Method::GET, ["apis", GROUP, "v1", "namespaces", namespace, "boats"]) => self.list(namespace),
            (&Method::POST, ["apis", GROUP, "v1", "namespaces", namespace, "boats"]) => {
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                self.create(namespace, &body, &parts.headers)
            }
            (&Method::GET, ["apis", GROUP, "v1", "namespaces", namespace, "boats", name]) => {
                let boats = locked(&self.boats);
                boats.get(&key(namespace, name)).map_or_else(|| not_found(name), |boat| said(200, boat))
            }
            (&Method::DELETE, ["apis", GROUP, "v1", "namespaces", namespace, "boats", name]) => {
                self.delete(namespace, name)
            }
            _ => not_found(parts.uri.path()),
        }
    }

    fn tick(&self) -> String {
        let mut revision = locked(&self.revision);
        *revision += 1;
        revision.to_string()
    }

    fn list(&self, namespace: &str) -> Answer {
        let boats = locked(&self.boats);
        let items: Vec<&Value> = boats
            .iter()
            .filter(|((of, _), _)| namespace.is_empty() || of == namespace)
            .map(|(_, boat)| boat)
            .collect();
        let metadata = json!({"resourceVersion": locked(&self.revision).to_string()});
        said(
            200,
            &json!({"kind": "BoatList", "apiVersion": format!("{GROUP}/v1"), "metadata": metadata, "items": items}),
        )
    }

    fn create(&self, namespace: &str, body: &[u8], headers: &HeaderMap) -> Answer {
        let Ok(mut boat) = serde_json::from_slice::<Value>(body) else { return not_found("a boat") };
        let name = boat["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let words = |name: &str| -> String {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.collect::<Vec<_>>().join(",")
        };
        boat["metadata"]["namespace"] = namespace.into();
        boat["metadata"]["uid"] = format!("uid-{namespace}-{name}").into();
        boat["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        boat["metadata"]["resourceVersion"] = self.tick().into();
        boat["status"] = json!({"user": words("x-remote-user"), "groups": words("x-remote-group"),
            "role": words("x-remote-extra-role"), "authorization": words("authorization")});
        locked(&self.boats).insert(key(namespace, &name), boat.clone());
        // Nobody may watch.
        drop(self.events.send(json!({"type": "ADDED", "object": boat})));
        said(201, &boat)
    }

    fn delete(&self, namespace: &str, name: &str) -> Answer {
        let Some(mut boat) = locked(&self.boats).remove(&key(namespace, name)) else {
            return not_found(name);
        };
        boat["metadata"]["resourceVersion"] = self.tick().into();
        drop(self.events.send(json!({"type": "DELETED", "object": boat})));
        said(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    /// What is there, and then every change.
    fn watch(&self) -> Answer {
        let changes = BroadcastStream::new(self.events.subscribe()).filter_map(Result::ok);
        let present: Vec<Value> =
            locked(&self.boats).values().map(|boat| json!({"type": "ADDED", "object": boat})).collect();
        let lines = iter(present).chain(changes);
        let frames = lines.map(|event| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1"), "resources": [{
        "name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "shortNames": ["bt"],
        "verbs": ["create", "delete", "get", "list", "watch"]}]})
}

fn usage_resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{USAGE}/v1beta1"), "resources": [{
        "name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"]}]})
}

fn usage() -> Value {
    let node = json!({"metadata": {"name": "measured"}, "usage": {"cpu": "7", "memory": "7Gi"}});
    json!({"kind": "NodeMetricsList", "apiVersion": format!("{USAGE}/v1beta1"), "metadata": {}, "items": [node]})
}

/// Such servers name their metrics, or nothing at all.
fn kinds_of_metrics(group: &str, version: &str) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"), "resources": []})
}

/// The queue of whom the query selects.
fn queue(query: Option<&str>) -> Value {
    let length = if query.is_some_and(|query| query.contains("of%3Dweb")) { "30" } else { "0" };
    let value = json!({"metricName": "queue", "metricLabels": {"of": "web"}, "timestamp": "2026-01-01T00:00:00Z", "value": length});
    json!({"kind": "ExternalMetricValueList", "apiVersion": format!("{OUTSIDE}/v1beta1"), "metadata": {}, "items": [value]})
}

fn hits() -> Value {
    let service = json!({"kind": "Service", "namespace": "default", "name": "front", "apiVersion": "/v1"});
    let value = json!({"describedObject": service, "metric": {"name": "hits"}, "timestamp": "2026-01-01T00:00:00Z", "value": "50"});
    json!({"kind": "MetricValueList", "apiVersion": format!("{CUSTOM}/v1beta2"), "metadata": {}, "items": [value]})
}

fn openapi() -> Value {
    let kind = json!([{"group": GROUP, "version": "v1", "kind": "Boat"}]);
    json!({"swagger": "2.0", "info": {"title": "ships", "version": "v1"},
        "paths": {format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/boats"): {"post": {
            "x-kubernetes-action": "post", "x-kubernetes-group-version-kind": kind[0],
            "parameters": [{"name": "body", "in": "body", "schema": {"$ref": "#/definitions/com.example.ships.v1.Boat"}}],
            "responses": {"200": {"description": "OK"}}}}},
        "definitions": {"com.example.ships.v1.Boat": {"type": "object", "description": "Boat carries what is loaded.",
            "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                "spec": {"$ref": "#/definitions/com.example.ships.v1.BoatSpec"}},
            "x-kubernetes-group-version-kind": kind},
          "com.example.ships.v1.BoatSpec": {"type": "object", "properties": {
            "sails": {"type": "integer", "description": "How many sails it has."}}}}})
}
