//! The API server: one function from a request to a response, whatever carried it (TLS, or a client in this process).
//!
//! A request passes authentication, authorization and a deadline; then either a document (discovery, OpenAPI, health)
//! answers it, or one of the generic verbs runs over the row of its resource. Every refusal is a [`Status`].

use crate::aggregation::{self, Aggregation, Remote};
use crate::authn::front_proxy::{self, Vouches};
use crate::authn::{Tokens, User};
use crate::authz::rbac::Rbac;
use crate::authz::{self, Attributes};
use crate::registry::Table;
use crate::store::Store;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use knarr_api::{FieldSelector, Status};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

mod answer;
pub(crate) mod audit;
pub(crate) mod bootstrap;
mod change;
mod compress;
mod computed;
mod deadline;
mod direct;
mod documents;
pub(crate) mod flow_control;
mod forward;
mod go_json;
mod health;
mod impersonation;
mod kubelet;
pub(crate) mod listener;
mod metrics;
mod namespace;
mod negotiate;
mod object_meta;
mod pretty;
mod query;
mod read_body;
mod route;
mod selection;
mod service_address;
mod service_families;
pub(crate) mod stored;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod turn;
mod verbs;
mod versions;
mod websocket;
mod yaml;

pub(crate) use answer::{Answer, Body, full, stream_of};
pub(crate) use change::{refuse_invalid, schema_of};
pub(crate) use deadline::seconds;
pub(crate) use direct::Direct;
pub(crate) use forward::{forward, passed as forwarded};
pub(crate) use kubelet::Kubelets;
pub(crate) use metrics::Metrics;
pub(crate) use object_meta::{now, timestamp};
pub(crate) use query::{percent_decode, percent_encode};
pub(crate) use service_address::{Range as AddressRange, ServiceAddresses};
pub(crate) use telemetry::Telemetry;
pub(crate) use turn::{Turn, Turnstile};

use answer::refuse;
use audit::{Audit, Trail};
use flow_control::FlowControl;
use negotiate::Accept;
use query::Query;
use route::{ResourcePath, Route};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Longest request body, bytes.
const MAX_BODY: usize = 3 << 20;

/// Everything a request can need.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) table: Table,
    /// Other servers behind this one.
    pub(crate) aggregation: Aggregation,
    pub(crate) openapi: crate::openapi::Documents,
    pub(crate) tokens: Tokens,
    pub(crate) rbac: Arc<Rbac>,
    pub(crate) addresses: ServiceAddresses,
    pub(crate) kubelets: Kubelets,
    pub(crate) quotas: crate::admission::Quotas,
    pub(crate) metrics: Metrics,
    pub(crate) telemetry: Telemetry,
    /// Turns true when the server stops: watches end.
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) flow_control: FlowControl,
    /// `None` where nothing is audited.
    pub(crate) audit: Option<Arc<Audit>>,
}

/// The user that the transport knows (client certificate, client in this process).
#[derive(Debug, Clone)]
pub(crate) struct TransportUser(pub(crate) User);

/// The other end has shown a certificate of the authority for servers that vouch for users, and may do so or not.
#[derive(Debug, Clone)]
pub(crate) struct FrontProxy(pub(crate) Option<Vouches>);

/// Says of a request from a client in this process that it wants objects without the owners of their fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OmitOwners;

/// One request about a resource, its body read.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) path: ResourcePath,
    pub(crate) resource: Arc<crate::registry::Resource>,
    pub(crate) user: User,
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Of a write, as those who have a say in it are told.
    pub(crate) options: serde_json::Value,
    /// Lists and watches leave out who owns which field.
    pub(crate) omits_owners: bool,
}

impl Server {
    /// Answers a request; failures are answers too.
    pub(crate) async fn handle<B>(self: Arc<Self>, mut request: Request<B>) -> Answer
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let accept = Accept::from_headers(request.headers());
        let compressed = compress::is_accepted(request.headers());
        let pretty = pretty::is_wanted(request.headers(), request.uri());
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let (method, uri, began) = (parts.method.clone(), parts.uri.clone(), Instant::now());
        let trail = Arc::new(Trail::new(&parts));
        let mut streams = false;
        let answered = self.clone().dispatch(parts, body, upgrade, (&accept, &trail, &mut streams)).await;
        let answer = answered.unwrap_or_else(|status| refuse(&status, &accept));
        let mut answer = self.audit_answered(&trail, streams, answer).await;
        if let Ok(id) = trail.id().parse() {
            answer.headers_mut().insert("audit-id", id);
        }
        let answer = if pretty && !streams { pretty::spread(answer) } else { answer };
        let answer = if compressed { compress::compress(answer) } else { answer };
        self.telemetry.record(&self, &method, &uri, answer.status().as_u16(), began.elapsed());
        answer
    }

    async fn dispatch<B>(
        self: Arc<Self>,
        mut parts: http::request::Parts,
        body: B,
        upgrade: hyper::upgrade::OnUpgrade,
        (accept, trail, streams): (&Accept, &Arc<Trail>, &mut bool),
    ) -> Result<Answer, Status>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let route = Route::parse(parts.uri.path())?;
        websocket::bearer::claim(&mut parts.headers)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let remote = self.aggregation.serving(parts.uri.path());
        let verb = verb_of(&parts.method, &route, &query, remote.is_some())?;
        let limit = match &route {
            route if is_long(&verb, route) => deadline::LONGEST,
            _ => deadline::of(&query)?,
        };
        let user = self.identify(&parts, trail, &verb, &route).await?;
        if let Some(remote) = remote {
            *streams = true;
            let is_long = is_long(&verb, &route) || parts.headers.contains_key(header::UPGRADE);
            let limit = (!is_long).then_some(limit);
            return self.pass_on((&remote, &route, &verb, limit), user, parts, body, upgrade).await;
        }
        let path = match route {
            Route::Path(path) => {
                self.authorize(&user, &Attributes::Path { verb: &verb, path: &path }).await?;
                return documents::answer(&self, &parts.method, &path, &query, accept).await;
            }
            Route::Resource(path) => path,
        };
        // A selector that cannot be read is refused where it is used.
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).unwrap_or_default();
        self.authorize(&user, &path.attributes(&verb, &fields)).await?;
        if !self.table.has_group(&path.group) {
            return Ok(documents::missing());
        }
        let resource = self.placed(&path)?;
        let mut call = Call {
            path,
            resource,
            user,
            method: parts.method,
            options: verbs::sent(&query, &verb),
            query,
            accept: accept.clone(),
            headers: parts.headers,
            body: Bytes::new(),
            omits_owners: parts.extensions.get::<OmitOwners>().is_some(),
        };
        if verbs::is_long(&verb, call.path.subresource()) {
            *streams = true;
            return verbs::stream(self, call, &verb, body, upgrade).await;
        }
        let _place = self.flow_control.enter(&call.user, &call.path.attributes(&verb, &fields)).await?;
        let work = async {
            call.body = collect(body).await?;
            trail.has_body(&call.body);
            verbs::run(&self, &call, &verb).await
        };
        let late = || Status::timeout("Timeout: request did not complete within the allotted timeout");
        tokio::time::timeout(limit, work).await.map_err(|_| late())?
    }

    /// Lets another server answer, if the user may ask. Without a `limit` the answer may take as long as it wants to begin.
    async fn pass_on<B>(
        &self,
        (remote, route, verb, limit): (&Remote, &Route, &str, Option<Duration>),
        user: User,
        parts: http::request::Parts,
        body: B,
        upgrade: hyper::upgrade::OnUpgrade,
    ) -> Result<Answer, Status>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let fields = FieldSelector::default();
        let attributes = match route {
            Route::Path(path) => Attributes::Path { verb, path },
            Route::Resource(path) => path.attributes(verb, &fields),
        };
        self.authorize(&user, &attributes).await?;
        let _place = match limit {
            Some(_) => Some(self.flow_control.enter(&user, &attributes).await?),
            None => None,
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let body = body.map_err(Into::into).boxed_unsync();
        let passed =
            aggregation::Passed { method: parts.method, path, headers: parts.headers, body, upgrade };
        let answered = aggregation::pass(self, remote, &user, passed);
        let late = || Status::timeout("Timeout: request did not complete within the allotted timeout");
        match limit {
            Some(limit) => tokio::time::timeout(limit, answered).await.map_err(|_| late()),
            None => Ok(answered.await),
        }
    }

    /// Whom a request is made for: its sender, or the one the sender may act as.
    async fn identify(
        &self,
        parts: &http::request::Parts,
        trail: &Trail,
        verb: &str,
        route: &Route,
    ) -> Result<User, Status> {
        let user = match self.authenticate(parts).await {
            Ok(user) => user,
            Err(status) => {
                self.audit_unauthenticated(trail, parts.method.as_str(), &status).await;
                return Err(status);
            }
        };
        self.audit_received(trail, &user, verb, route).await;
        let acting = self.impersonate(user.clone(), &parts.headers).await?;
        if acting != user {
            trail.acts_as(&acting);
        }
        Ok(acting)
    }

    /// The row of a path, if the path has a namespace exactly where the row wants one.
    fn placed(&self, path: &ResourcePath) -> Result<Arc<crate::registry::Resource>, Status> {
        let found = self.table.find(&path.group, &path.version, &path.plural);
        let resource = found.ok_or_else(Status::no_such_resource)?;
        if path.rest.is_some() && path.subresource() != "proxy" {
            return Err(Status::no_such_resource());
        }
        let misplaced = if resource.namespaced {
            path.name.is_some() && path.namespace.is_none()
        } else {
            path.namespace.is_some()
        };
        if misplaced { Err(Status::no_such_resource()) } else { Ok(resource) }
    }

    async fn authenticate(&self, parts: &http::request::Parts) -> Result<User, Status> {
        if let Some(user) = parts.extensions.get::<TransportUser>() {
            return Ok(user.0.clone());
        }
        let vouches = parts.extensions.get::<FrontProxy>();
        if let Some(user) = vouches.and_then(|proxy| proxy.0).and_then(|_| front_proxy::user(&parts.headers))
        {
            return Ok(user);
        }
        match parts.headers.get(header::AUTHORIZATION) {
            Some(value) => {
                let value = value.to_str().map_err(|_| Status::unauthorized())?;
                self.tokens.authenticate(value, &*self.store).await
            }
            // A certificate that says nothing about its owner proves nothing.
            None if vouches.is_some() => Err(Status::unauthorized()),
            None => Ok(User::anonymous()),
        }
    }

    async fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), Status> {
        if self.may(user, attributes).await { Ok(()) } else { Err(authz::refusal(user, attributes)) }
    }

    /// Whether the fixed rules or a role let `user` do it.
    pub(crate) async fn may(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        authz::allows(user, attributes)
            || authz::node::allows(&*self.store, user, attributes).await
            || self.rbac.allows(user, attributes)
    }
}

/// The verb of a request; those for others may have methods that we do not know.
fn verb_of(method: &Method, route: &Route, query: &Query, is_foreign: bool) -> Result<String, Status> {
    let plain = || method.as_str().to_ascii_lowercase();
    match route {
        Route::Path(_) => Ok(plain()),
        Route::Resource(path) => match verbs::verb(method, path, query) {
            Err(_) if is_foreign => Ok(plain()),
            verb => verb.map(str::to_owned),
        },
    }
}

fn is_long(verb: &str, route: &Route) -> bool {
    matches!(route, Route::Resource(path) if verbs::is_long(verb, path.subresource()))
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
