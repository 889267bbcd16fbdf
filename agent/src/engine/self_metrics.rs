//! Prometheus' view of the engine itself: its calls, what it keeps, what it costs. (What it tells of pods are CRI's own
//! metrics, in `metrics`.)
//!
//! Plain HTTP without a password, so it is off unless an address is configured.

use super::Engine;
use super::core::Core;
use anyhow::Context;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use knarr_cri::v1::{ContainerState, PodSandboxState};
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A client that has not sent its request by then is let go.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl Engine {
    /// Serves `/metrics` as long as this engine exists. Must be called inside a tokio runtime.
    pub fn serve_metrics(self: &Arc<Self>, address: SocketAddr) -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind(address)
            .with_context(|| format!("engine.metrics_listen: listen on {address}"))?;
        listener.set_nonblocking(true)?;
        tokio::spawn(accept(TcpListener::from_std(listener)?, Arc::downgrade(&self.core)));
        Ok(())
    }
}

async fn accept(listener: TcpListener, core: Weak<Core>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, core.clone()))),
            Err(error) => {
                tracing::warn!(%error, "the metrics server cannot accept a connection");
                // Out of descriptors, most likely: accepting at once again would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if core.strong_count() == 0 {
            return;
        }
    }
}

async fn serve(stream: TcpStream, core: Weak<Core>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let core = core.clone();
        async move { Ok::<_, Infallible>(respond(&request, &core)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "metrics connection");
    }
}

fn respond(request: &Request<Incoming>, core: &Weak<Core>) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path(), core.upgrade()) {
        (&Method::GET, "/metrics", Some(core)) => (StatusCode::OK, exposition(&core)),
        (&Method::GET, "/healthz", Some(_)) => (StatusCode::OK, "ok".to_owned()),
        (_, "/metrics" | "/healthz", Some(_)) => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        (_, _, Some(_)) => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
        (_, _, None) => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn exposition(core: &Core) -> String {
    let mut text = core.calls.exposition();
    let pods = core.registry.all_sandboxes();
    let ready_pods = pods.iter().filter(|pod| pod_state(pod) == PodSandboxState::SandboxReady).count();
    gauge(
        &mut text,
        "knarr_engine_pods",
        "Pods by state.",
        &[
            ("{state=\"ready\"}", ready_pods as f64),
            ("{state=\"notready\"}", (pods.len() - ready_pods) as f64),
        ],
    );
    let containers = core.registry.containers();
    let count = |state: ContainerState| {
        containers.iter().filter(|one| one.record.with(|record| record.state()) == state).count() as f64
    };
    gauge(
        &mut text,
        "knarr_engine_containers",
        "Containers by state.",
        &[
            ("{state=\"created\"}", count(ContainerState::ContainerCreated)),
            ("{state=\"running\"}", count(ContainerState::ContainerRunning)),
            ("{state=\"exited\"}", count(ContainerState::ContainerExited)),
        ],
    );
    if let Some(bytes) = resident_bytes() {
        gauge(&mut text, "process_resident_memory_bytes", "Resident memory of the engine.", &[("", bytes)]);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge(
            &mut text,
            "process_open_fds",
            "Open file descriptors of the engine.",
            &[("", open.count() as f64)],
        );
    }
    text
}

fn pod_state(pod: &super::registry::Sandbox) -> PodSandboxState {
    pod.record.with(super::records::SandboxRecord::state)
}

fn gauge(text: &mut String, name: &str, help: &str, values: &[(&str, f64)]) {
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in values {
        let _infallible = writeln!(text, "{name}{labels} {value}");
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}
