//! Health checks of load balancers: which nodes have endpoints of a service that keeps its clients' addresses.
//!
//! Such a service (`externalTrafficPolicy: Local`) is served by the nodes that have endpoints of it, so each node answers
//! on the service's `healthCheckNodePort` how many it has: 200 if there are any and the rules are in force, else 503. The
//! answers are kube-proxy's. Whatever path is asked for, that is the answer.

use super::http_answers::{self, Answer};
use super::ports::{SERVICE_NAME, is_ready};
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// What is to be answered on one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Ready endpoints on this node.
    pub(crate) endpoints: usize,
}

/// By port. The first of two services that claim one keeps it.
pub(crate) type Checks = BTreeMap<u16, Check>;

/// The checks of all services, seen from the node `node`.
pub(crate) fn checks(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Checks {
    let mut found = Checks::new();
    for service in services {
        let Some(port) = port_of(service) else { continue };
        let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
        let (Some(namespace), Some(name)) = (namespace, name) else { continue };
        let own = slices.iter().filter(|slice| belongs(slice, namespace, name));
        let endpoints = local_endpoints(own, node);
        found.entry(port).or_insert(Check { namespace: namespace.into(), name: name.into(), endpoints });
    }
    found
}

fn port_of(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let wanted = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = spec.health_check_node_port.filter(|_| wanted)?;
    u16::try_from(port).ok().filter(|&port| port != 0)
}

fn belongs(slice: &EndpointSlice, namespace: &str, name: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    slice.metadata.namespace.as_deref() == Some(namespace)
        && labels.and_then(|labels| labels.get(SERVICE_NAME)).is_some_and(|service| service == name)
}

/// An endpoint of both families is one.
fn local_endpoints<'a>(slices: impl Iterator<Item = &'a Arc<EndpointSlice>>, node: &str) -> usize {
    let mut by_family: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for slice in slices {
        let here =
            slice.endpoints.iter().filter(|one| one.node_name.as_deref() == Some(node) && is_ready(one));
        let addresses = here.filter_map(|one| one.addresses.first().map(String::as_str));
        by_family.entry(&slice.address_type).or_default().extend(addresses);
    }
    by_family.values().map(BTreeSet::len).max().unwrap_or(0)
}

/// What all listeners answer from.
#[derive(Debug, Default)]
struct Answers {
    checks: Checks,
    /// The rules that the kernel has are those of now.
    healthy: bool,
}

/// The listeners of this node; they end with it.
#[derive(Debug, Default)]
pub(crate) struct HealthServer {
    answers: watch::Sender<Answers>,
    listeners: BTreeMap<u16, DropGuard>,
}

impl HealthServer {
    /// Answers these checks from now on. A port that cannot be had is tried again the next time.
    pub(crate) async fn follow(&mut self, checks: Checks, healthy: bool) {
        self.listeners.retain(|port, _| checks.contains_key(port));
        let new: Vec<u16> =
            checks.keys().filter(|port| !self.listeners.contains_key(port)).copied().collect();
        self.answers.send_replace(Answers { checks, healthy });
        for port in new {
            match listen(port).await {
                Ok(listener) => {
                    let stop = CancellationToken::new();
                    let answers = self.answers.subscribe();
                    let serve = http_answers::serve(listener, move |_| answer(port, &answers.borrow()));
                    tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
                    self.listeners.insert(port, stop.drop_guard());
                }
                Err(error) => tracing::warn!(port, %error, "health checks of a service are not answered"),
            }
        }
    }
}

/// All addresses of both families, where the kernel has both.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        result => result,
    }
}

fn answer(port: u16, answers: &Answers) -> Answer {
    let Some(Check { namespace, name, endpoints }) = answers.checks.get(&port) else {
        return http_answers::plain(StatusCode::SERVICE_UNAVAILABLE, "");
    };
    let healthy = answers.healthy;
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace:?},\n\t\t\"name\": {name:?}\n\t}},\n\
         \t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let mut response = http_answers::json(*endpoints > 0 && healthy, text);
    response.headers_mut().insert(WEIGHT, HeaderValue::from(*endpoints));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io::{Read as _, Write as _};

    fn service(spec: &Value) -> Arc<Service> {
        let object = json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn slice(family: &str, endpoints: Value) -> Arc<EndpointSlice> {
        let object = json!({"metadata": {"namespace": "default", "name": family, "labels": {SERVICE_NAME: "web"}},
            "addressType": family, "endpoints": endpoints, "ports": [{"port": 80}]});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn ready_endpoints_of_this_node_are_counted_once() {
        let spec =
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100});
        let slices = [
            slice(
                "IPv4",
                json!([{"addresses": ["10.0.0.1"], "nodeName": "here"}, {"addresses": ["10.0.0.2"], "nodeName": "here"},
                {"addresses": ["10.0.0.3"], "nodeName": "there"},
                {"addresses": ["10.0.0.4"], "nodeName": "here", "conditions": {"ready": false, "serving": true, "terminating": true}}]),
            ),
            slice("IPv6", json!([{"addresses": ["fd00::1"], "nodeName": "here"}])),
        ];
        let check = |endpoints| Check { namespace: "default".into(), name: "web".into(), endpoints };
        assert_eq!(checks(&[service(&spec)], &slices, "here"), [(30100, check(2))].into());
        assert_eq!(checks(&[service(&spec)], &slices, "nowhere"), [(30100, check(0))].into());
        for (field, value) in [
            ("type", json!("NodePort")),
            ("externalTrafficPolicy", json!("Cluster")),
            ("healthCheckNodePort", json!(0)),
            ("healthCheckNodePort", json!(70_000)),
        ] {
            let mut other = spec.clone();
            other[field] = value;
            assert_eq!(checks(&[service(&other)], &slices, "here"), Checks::new(), "{other}");
        }
    }

    fn ask(host: &str, port: u16) -> Option<String> {
        let mut stream = std::net::TcpStream::connect((host, port)).ok()?;
        stream.write_all(b"GET /anything HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A load balancer's view: endpoints come and go, and so does the service.
    #[test]
    fn a_load_balancer_learns_whether_this_node_has_endpoints() {
        crate::network_lab::Lab::run(|lab| async move {
            let mut server = HealthServer::default();
            let check = |endpoints| Check { namespace: "default".into(), name: "web".into(), endpoints };
            let asked = async |host: &'static str| {
                tokio::task::spawn_blocking(move || ask(host, 30100)).await.unwrap()
            };
            for (endpoints, healthy, status) in [(2, true, "200 OK"), (0, true, "503"), (1, false, "503")] {
                server.follow([(30100, check(endpoints))].into(), healthy).await;
                for host in ["127.0.0.1", "::1"] {
                    let answer = asked(host).await.unwrap();
                    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
                    assert!(
                        answer.contains(&format!("x-load-balancing-endpoint-weight: {endpoints}\r\n")),
                        "{answer}"
                    );
                    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
                    assert_eq!(
                        body,
                        json!({"service": {"namespace": "default", "name": "web"}, "localEndpoints": endpoints,
                            "serviceProxyHealthy": healthy})
                    );
                }
            }
            server.follow(Checks::new(), true).await;
            let closed = move || lab.is_refused(Ipv4Addr::LOCALHOST.into(), 30100);
            let wait = || crate::network_lab::wait_until("the port is closed", closed);
            tokio::task::spawn_blocking(wait).await.unwrap();
        });
    }
}
