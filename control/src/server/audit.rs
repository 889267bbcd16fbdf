//! The audit log: who did what, as `audit.k8s.io/v1` events, one JSON document a line.
//!
//! A policy decides by the first of its rules that fits how much is written of a request ([`policy`]). A request's
//! [`Trail`] gathers what becomes known on its way through the server; the events are made from it at the stages
//! `RequestReceived`, `ResponseStarted` (of answers that go on) and `ResponseComplete`. An event that was handed over is
//! written by a thread of its own ([`log`]); a disk that is too slow slows the requests down rather than losing events.

use super::answer::{self, Answer};
use super::route::{ResourcePath, Route};
use super::{BoxError, Server};
use crate::authn::User;
use anyhow::Context as _;
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use jiff::Timestamp;
use knarr_api::Status;
use log::Log;
pub use log::Rotation;
use policy::{Asked, Level, Policy, Stage};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

mod event;
mod log;
mod policy;

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// A file with one `audit.k8s.io/v1` Policy.
    pub policy: PathBuf,
    /// The log; `-` is the standard output.
    pub path: PathBuf,
    /// When the file is put aside, and for how long.
    pub rotation: Rotation,
}

/// The other end of a connection, as the listener knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A policy and its log.
#[derive(Debug)]
pub(crate) struct Audit {
    policy: Policy,
    log: Log,
}

impl Audit {
    /// Reads the policy, opens the log.
    pub(crate) fn open(options: &AuditOptions) -> anyhow::Result<Self> {
        let file = &options.policy;
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read the audit policy {}", file.display()))?;
        let policy = Policy::parse(&text).with_context(|| format!("audit policy {}", file.display()))?;
        let log = Log::open(&options.path, options.rotation)
            .with_context(|| format!("open the audit log {}", options.path.display()))?;
        Ok(Self { policy, log })
    }
}

/// What is known of one request so far.
#[derive(Debug)]
pub(crate) struct Trail {
    id: String,
    received: Timestamp,
    uri: String,
    agent: String,
    sources: Vec<String>,
    content_type: String,
    user: OnceLock<User>,
    impersonated: OnceLock<User>,
    about: OnceLock<About>,
    body: OnceLock<Bytes>,
}

/// What the policy said, and about what.
#[derive(Debug)]
struct About {
    verb: String,
    path: Option<ResourcePath>,
    level: Level,
    omitted: Vec<Stage>,
    omit_managed_fields: bool,
}

impl Trail {
    pub(super) fn new(parts: &http::request::Parts) -> Self {
        let text = |name: header::HeaderName| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let forwarded = text(header::HeaderName::from_static("x-forwarded-for"));
        let mut sources: Vec<String> =
            forwarded.split(',').map(|address| address.trim().to_owned()).filter(|a| !a.is_empty()).collect();
        let peer = parts.extensions.get::<Peer>().map_or("::1".to_owned(), |peer| peer.0.ip().to_string());
        if !sources.contains(&peer) {
            sources.push(peer);
        }
        let wanted = text(header::HeaderName::from_static("audit-id"));
        Self {
            id: if wanted.is_empty() || wanted.len() > 64 { crate::random::uid() } else { wanted },
            received: Timestamp::now(),
            uri: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            agent: text(header::USER_AGENT),
            sources,
            content_type: text(header::CONTENT_TYPE),
            user: OnceLock::new(),
            impersonated: OnceLock::new(),
            about: OnceLock::new(),
            body: OnceLock::new(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn acts_as(&self, user: &User) {
        let _ = self.impersonated.set(user.clone());
    }

    pub(super) fn has_body(&self, body: &Bytes) {
        let _ = self.body.set(body.clone());
    }

    fn writes(&self, stage: Stage) -> Option<&About> {
        self.about.get().filter(|about| about.level > Level::None && !about.omitted.contains(&stage))
    }
}

impl Server {
    /// The user is known: decides how much is to be written, and writes the first event.
    pub(super) async fn audit_received(&self, trail: &Trail, user: &User, verb: &str, route: &Route) {
        let Some(audit) = &self.audit else { return };
        let _ = trail.user.set(user.clone());
        let path = match route {
            Route::Resource(path) => Some(path.clone()),
            Route::Path(_) => None,
        };
        let decided = audit.policy.decide(&Asked {
            user: Some(user),
            verb,
            path: path.as_ref(),
            url: trail.uri.split('?').next().unwrap_or_default(),
        });
        let _ = trail.about.set(About {
            verb: verb.to_owned(),
            path,
            level: decided.level,
            omitted: decided.omitted,
            omit_managed_fields: decided.omit_managed_fields,
        });
        if let Some(about) = trail.writes(Stage::RequestReceived) {
            audit.log.write(event::of(trail, about, Stage::RequestReceived, None)).await;
        }
    }

    /// Writes the last event of a request; that of an answer which goes on is written when it ends.
    pub(super) async fn audit_answered(&self, trail: &Arc<Trail>, streams: bool, answer: Answer) -> Answer {
        let Some(audit) = &self.audit else { return answer };
        let Some(about) = trail.about.get().filter(|about| about.level > Level::None) else {
            return answer;
        };
        let code = answer.status().as_u16();
        if streams && code < 400 {
            if trail.writes(Stage::ResponseStarted).is_some() {
                let outcome = event::Outcome { code, body: None };
                audit.log.write(event::of(trail, about, Stage::ResponseStarted, Some(outcome))).await;
            }
            return self.audit_at_end(trail, code, answer);
        }
        if trail.writes(Stage::ResponseComplete).is_none() {
            return answer;
        }
        let (answer, body) = match about.level {
            Level::RequestResponse => read(answer).await,
            _ if code >= 400 => read(answer).await,
            _ => (answer, None),
        };
        let outcome = event::Outcome { code, body };
        audit.log.write(event::of(trail, about, Stage::ResponseComplete, Some(outcome))).await;
        answer
    }

    /// A request whose sender could not be told.
    pub(super) async fn audit_unauthenticated(&self, trail: &Trail, method: &str, status: &Status) {
        let Some(audit) = &self.audit else { return };
        let url = trail.uri.split('?').next().unwrap_or_default();
        let verb = method.to_ascii_lowercase();
        let decided = audit.policy.decide(&Asked { user: None, verb: &verb, path: None, url });
        if decided.level == Level::None || decided.omitted.contains(&Stage::ResponseStarted) {
            return;
        }
        let about =
            About { verb, path: None, level: decided.level, omitted: Vec::new(), omit_managed_fields: false };
        let outcome = event::Outcome { code: status.code, body: Some(status.to_value()) };
        audit.log.write(event::of(trail, &about, Stage::ResponseStarted, Some(outcome))).await;
    }

    fn audit_at_end(&self, trail: &Arc<Trail>, code: u16, answer: Answer) -> Answer {
        let Some(audit) = self.audit.clone().filter(|_| trail.writes(Stage::ResponseComplete).is_some())
        else {
            return answer;
        };
        answer.map(|body| {
            let ending = Ending { audit, trail: trail.clone(), code };
            answer::boxed(Watched { body, _ending: ending })
        })
    }
}

/// The whole body, and what it says.
async fn read(answer: Answer) -> (Answer, Option<Value>) {
    let (parts, body) = answer.into_parts();
    match body.collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let value = event::decoded(content_type.unwrap_or_default(), &bytes);
            (Answer::from_parts(parts, answer::full(bytes)), value)
        }
        Err(error) => (super::refuse(&Status::internal(error), &super::Accept::default()), None),
    }
}

/// Writes the event of the end when it is dropped: with the answer that it belongs to.
struct Ending {
    audit: Arc<Audit>,
    trail: Arc<Trail>,
    code: u16,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(about) = self.trail.about.get() {
            let outcome = event::Outcome { code: self.code, body: None };
            self.audit.log.write_now(event::of(&self.trail, about, Stage::ResponseComplete, Some(outcome)));
        }
    }
}

/// A body whose end is an event.
struct Watched {
    body: super::Body,
    _ending: Ending,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
