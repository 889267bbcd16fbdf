//! The API server: one function from a request to a response, whatever carried it (TLS, or a client in this process).
//!
//! A request passes authentication, authorization and a deadline; then either a document (discovery, OpenAPI, health)
//! answers it, or one of the generic verbs runs over the row of its resource. Every refusal is a [`Status`].

use crate::authn::{Tokens, User};
use crate::authz::rbac::Rbac;
use crate::authz::{self, Attributes};
use crate::registry::Table;
use crate::store::Store;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use knarr_api::Status;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

mod answer;
pub(crate) mod bootstrap;
mod change;
mod compress;
mod computed;
mod documents;
mod health;
mod impersonation;
mod kubelet;
pub(crate) mod listener;
mod metrics;
mod namespace;
mod negotiate;
mod object_meta;
mod query;
mod read_body;
mod route;
mod selection;
mod service_address;
pub(crate) mod stored;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod verbs;

pub(crate) use answer::{Answer, Body};
pub(crate) use change::refuse_invalid;
pub(crate) use kubelet::Kubelets;
pub(crate) use metrics::Metrics;
pub(crate) use object_meta::{now, timestamp};
pub(crate) use query::percent_encode;
pub(crate) use service_address::ServiceAddresses;
pub(crate) use telemetry::Telemetry;

use answer::refuse;
use negotiate::Accept;
use query::Query;
use route::{ResourcePath, Route};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Longest request body, bytes.
const MAX_BODY: usize = 3 << 20;
/// Everything but watches, logs, exec and their like ends within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests in work at once, watches and streams not counted.
const MAX_IN_FLIGHT: usize = 600;

/// Everything a request can need.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) table: Table,
    pub(crate) openapi: crate::openapi::Documents,
    pub(crate) tokens: Tokens,
    pub(crate) rbac: Rbac,
    pub(crate) addresses: ServiceAddresses,
    pub(crate) kubelets: Kubelets,
    pub(crate) quotas: crate::admission::Quotas,
    pub(crate) metrics: Metrics,
    pub(crate) telemetry: Telemetry,
    /// Turns true when the server stops: watches end.
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) in_flight: Semaphore,
}

/// The user that the transport knows (client certificate, client in this process).
#[derive(Debug, Clone)]
pub(crate) struct TransportUser(pub(crate) User);

/// One request about a resource, its body read.
pub(crate) struct Call {
    pub(crate) path: ResourcePath,
    pub(crate) resource: Arc<crate::registry::Resource>,
    pub(crate) user: User,
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Server {
    pub(crate) fn semaphore() -> Semaphore {
        Semaphore::new(MAX_IN_FLIGHT)
    }

    /// Answers a request; failures are answers too.
    pub(crate) async fn handle<B>(self: Arc<Self>, mut request: Request<B>) -> Answer
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let accept = Accept::from_headers(request.headers());
        let compressed = compress::is_accepted(request.headers());
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let (method, uri, began) = (parts.method.clone(), parts.uri.clone(), Instant::now());
        let answer = match self.clone().dispatch(parts, body, upgrade, &accept).await {
            Ok(answer) if compressed => compress::compress(answer),
            Ok(answer) => answer,
            Err(status) => refuse(&status, &accept),
        };
        self.telemetry.record(&self, &method, &uri, answer.status().as_u16(), began.elapsed());
        answer
    }

    async fn dispatch<B>(
        self: Arc<Self>,
        parts: http::request::Parts,
        body: B,
        upgrade: hyper::upgrade::OnUpgrade,
        accept: &Accept,
    ) -> Result<Answer, Status>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let user = self.authenticate(&parts).await?;
        let user = self.impersonate(user, &parts.headers).await?;
        let route = Route::parse(parts.uri.path())?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let path = match route {
            Route::Path(path) => {
                let verb = parts.method.as_str().to_ascii_lowercase();
                self.authorize(&user, &Attributes::Path { verb: &verb, path: &path }).await?;
                return documents::answer(&self, &parts.method, &path, &query, accept).await;
            }
            Route::Resource(path) => path,
        };
        let verb = verbs::verb(&parts.method, &path, &query)?;
        self.authorize(&user, &path.attributes(verb)).await?;
        let found = self.table.find(&path.group, &path.version, &path.plural);
        let resource = found.ok_or_else(Status::no_such_resource)?;
        let misplaced = if resource.namespaced {
            path.name.is_some() && path.namespace.is_none()
        } else {
            path.namespace.is_some()
        };
        if misplaced {
            return Err(Status::no_such_resource());
        }
        let mut call = Call {
            path,
            resource,
            user,
            method: parts.method,
            query,
            accept: accept.clone(),
            headers: parts.headers,
            body: Bytes::new(),
        };
        if verbs::is_stream(verb, &call) {
            return verbs::stream(self, call, verb, body, upgrade).await;
        }
        let _permit = self
            .in_flight
            .try_acquire()
            .map_err(|_| Status::too_many_requests("Too many requests, please try again later.", Some(1)))?;
        let work = async {
            call.body = collect(body).await?;
            verbs::run(&self, &call, verb).await
        };
        let late = || Status::timeout("Timeout: request did not complete within the allotted timeout");
        tokio::time::timeout(REQUEST_TIMEOUT, work).await.map_err(|_| late())?
    }

    async fn authenticate(&self, parts: &http::request::Parts) -> Result<User, Status> {
        if let Some(user) = parts.extensions.get::<TransportUser>() {
            return Ok(user.0.clone());
        }
        match parts.headers.get(header::AUTHORIZATION) {
            Some(value) => {
                let value = value.to_str().map_err(|_| Status::unauthorized())?;
                self.tokens.authenticate(value, &*self.store).await
            }
            None => Ok(User::anonymous()),
        }
    }

    async fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), Status> {
        if self.may(user, attributes).await { Ok(()) } else { Err(authz::refusal(user, attributes)) }
    }

    /// Whether the fixed rules or a role let `user` do it.
    pub(crate) async fn may(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        authz::allows(user, attributes) || self.rbac.allows(user, attributes).await
    }
}

/// The whole body, if it is not too long.
async fn collect<B>(body: B) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(MAX_BODY)),
        Err(error) => Err(Status::bad_request(format!("read the body: {error}"))),
    }
}

/// Returns when the server is to stop (or is gone already).
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // The guard that comes back must not live on: it cannot cross threads.
    let _ = shutdown.wait_for(|stop| *stop).await.is_ok();
}
