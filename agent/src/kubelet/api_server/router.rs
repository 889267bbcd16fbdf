//! Which request is whose.

use super::identity::Caller;
use super::query::{Query, segments};
use super::respond::{Body, Refusal, json, text};
use super::{
    Shared, cadvisor, checkpoint, configz, logs, metrics, node_logs, own_metrics, run, running_pods, streams,
    summary,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::List;
use std::sync::Arc;

pub(super) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    caller: &Caller,
) -> Response<Body> {
    let answered = match shared.access.admit(caller, &request).await {
        Ok(()) => route(request, &shared).await,
        Err(refusal) => Err(refusal),
    };
    answered.unwrap_or_else(Refusal::response)
}

/// On the port without accounts: what pods there are and what they use, and nothing that reaches into them.
pub(super) async fn answer_everybody(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let path = segments(request.uri().path());
    let first = path.first().map(String::as_str);
    let open = matches!(first, Some("healthz" | "pods" | "stats" | "metrics"));
    let answered = match open && [Method::GET, Method::HEAD].contains(request.method()) {
        true => route(request, shared).await,
        false => Err(Refusal::not_found("404 page not found\n")),
    };
    answered.unwrap_or_else(Refusal::response)
}

async fn route(request: Request<Incoming>, shared: &Shared) -> Result<Response<Body>, Refusal> {
    let path = segments(request.uri().path());
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let parts: Vec<_> = path.iter().map(String::as_str).collect();
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    match parts.as_slice() {
        ["healthz", ..] if reads => Ok(text(StatusCode::OK, "ok")),
        ["pods"] if reads => Ok(json(&List {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta::default(),
            items: (shared.pods)().into_iter().map(Arc::unwrap_or_clone).collect(),
        })),
        ["runningpods"] if reads => running_pods::list(shared).await,
        ["containerLogs", namespace, pod, container] if reads => {
            logs::answer(shared, namespace, pod, container, &query).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            streams::exec(shared, request, namespace, pod, container, &query).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            streams::attach(shared, request, namespace, pod, container, &query).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            streams::port_forward(shared, request, namespace, pod, &query).await
        }
        ["run", namespace, pod, container] | ["run", namespace, pod, _, container]
            if request.method() == Method::POST =>
        {
            run::answer(shared, namespace, pod, container, &query).await
        }
        ["stats", "summary"] if reads => summary::answer(shared).await,
        ["metrics", "resource"] if reads => metrics::resource(shared).await,
        ["metrics", "cadvisor"] if reads => cadvisor::answer(shared).await,
        ["metrics", "probes"] if reads => Ok(own_metrics::probes(shared)),
        ["metrics"] if reads => own_metrics::own(shared).await,
        ["configz"] if reads => Ok(json(&configz::document(&shared.config))),
        ["checkpoint", namespace, pod, container] if request.method() == Method::POST => {
            checkpoint::answer(shared, namespace, pod, container, &query).await
        }
        ["logs", parts @ ..] if reads => {
            let root = shared.config.pod_logs_dir.parent().unwrap_or(&shared.config.pod_logs_dir);
            node_logs::answer(root, parts).await
        }
        _ => Err(Refusal::not_found("404 page not found\n")),
    }
}
