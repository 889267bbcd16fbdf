//! The verbs of the API, one file each, generic over the table of resources; and those subresources that are more
//! than a part of their object.

pub(super) use binding::bind;
pub(super) use options::sent;

use super::answer::Answer;
use super::change::Manner;
use super::query::Query;
use super::route::ResourcePath;
use super::{BoxError, Call, Server, collect};
use crate::admission::{Kind, Operation, Write};
use bytes::Bytes;
use http::Method;
use knarr_api::Status;
use knarr_api::patch::apply::Writer;
use std::sync::Arc;

mod apply;
mod binding;
mod connect;
mod create;
mod delete;
mod delete_collection;
mod eviction;
mod finalize;
mod get;
mod list;
mod options;
mod patch;
mod review;
mod scale;
mod token;
mod typed;
mod update;
mod watch;

/// The verb of a request, as authorization and audit name it.
pub(crate) fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Result<&'static str, Status> {
    let named = path.name.is_some();
    match *method {
        Method::GET | Method::HEAD if path.subresource.is_none() && query.flag("watch") => Ok("watch"),
        Method::GET | Method::HEAD if named => Ok("get"),
        Method::GET | Method::HEAD => Ok("list"),
        Method::POST => Ok("create"),
        Method::PUT if named => Ok("update"),
        Method::PATCH if named => Ok("patch"),
        Method::DELETE if named => Ok("delete"),
        Method::DELETE => Ok("deletecollection"),
        // Only what is behind a proxy may know it; as a verb it has no name.
        Method::OPTIONS if path.subresource() == "proxy" => Ok(""),
        _ => Err(Status::unknown_method()),
    }
}

/// Whether the answer may last longer than a request should: no deadline, no place among the requests in work.
pub(crate) fn is_long(verb: &str, subresource: &str) -> bool {
    verb == "watch" || connect::SUBRESOURCES.contains(&subresource)
}

/// Runs a request whose answer may go on for long.
pub(crate) async fn stream<B>(
    server: Arc<Server>,
    mut call: Call,
    verb: &str,
    body: B,
    upgrade: hyper::upgrade::OnUpgrade,
) -> Result<Answer, Status>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    check(&call, verb)?;
    if verb == "watch" {
        options::check(&call, verb)?;
        return watch::run(server, call, upgrade).await;
    }
    let late = |_| Status::timeout("Timeout: request did not complete within the allotted timeout");
    call.body = tokio::time::timeout(super::deadline::LONGEST, collect(body)).await.map_err(late)??;
    connect::run(&server, call, upgrade).await
}

/// Runs a request that ends soon.
pub(crate) async fn run(server: &Server, call: &Call, verb: &str) -> Result<Answer, Status> {
    check(call, verb)?;
    options::check(call, verb)?;
    let mut answer = dispatch(server, call, verb).await?;
    super::answer::warn(&mut answer, &outdated(&call.resource));
    Ok(answer)
}

/// That a resource is on its way out, for whoever uses it.
fn outdated(resource: &crate::registry::Resource) -> Vec<String> {
    if let Some(custom) = &resource.custom {
        return custom.warning.iter().cloned().collect();
    }
    let words = match (resource.group.as_ref(), resource.kind.as_ref()) {
        ("", "Endpoints") => "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        ("", "ComponentStatus") => "v1 ComponentStatus is deprecated in v1.19+",
        _ => return Vec::new(),
    };
    vec![words.to_owned()]
}

async fn dispatch(server: &Server, call: &Call, verb: &str) -> Result<Answer, Status> {
    match (verb, call.path.subresource()) {
        ("create", "") if is_binding(call) => binding::run_named(server, call).await,
        (_, "") if review::is_review(call) => review::run(server, call).await,
        ("get", "" | "status" | "approval" | "ephemeralcontainers" | "resize") => {
            get::run(server, call).await
        }
        ("list", "") => list::run(server, call).await,
        ("create", "") => create::run(server, call).await,
        ("update", "" | "status" | "approval" | "ephemeralcontainers" | "resize") => {
            update::run(server, call).await
        }
        ("patch", "" | "status" | "approval" | "ephemeralcontainers" | "resize") => {
            patch::run(server, call).await
        }
        ("delete", "") => delete::run(server, call).await,
        ("deletecollection", "") => delete_collection::run(server, call).await,
        ("get" | "update" | "patch", "scale") => scale::run(server, call, verb).await,
        ("create", "binding") => binding::run(server, call).await,
        ("create", "eviction") => eviction::run(server, call).await,
        ("create", "token") => token::run(server, call).await,
        ("update", "finalize") => finalize::run(server, call).await,
        _ => Err(Status::no_such_resource()),
    }
}

fn is_binding(call: &Call) -> bool {
    call.resource.group.is_empty() && call.resource.plural == "bindings"
}

/// Whether the resource offers the verb at all.
fn check(call: &Call, verb: &str) -> Result<(), Status> {
    let resource = &call.resource;
    // Only what is on the other side of a proxy may know it.
    if call.method == Method::HEAD && call.path.subresource() != "proxy" {
        return Err(Status::unknown_method());
    }
    let (offered, exists) = match call.path.subresource.as_deref() {
        None => (resource.allows(verb), true),
        Some(name) => {
            let found = resource.subresources.iter().find(|subresource| subresource.name == name);
            let offers = |verbs: &[std::borrow::Cow<'_, str>]| verbs.iter().any(|offered| offered == verb);
            let connects = connect::SUBRESOURCES.contains(&name);
            (found.is_some_and(|found| connects || offers(&found.verbs)), found.is_some())
        }
    };
    let placeless = resource.namespaced && call.path.namespace.is_none();
    match (offered, exists) {
        // What is made or destroyed as a whole is of one namespace.
        (true, _) if placeless && matches!(verb, "create" | "deletecollection") => {
            Err(Status::unknown_method())
        }
        (true, _) => Ok(()),
        (false, true) => Err(Status::method_not_allowed(&resource.group, &resource.plural, verb)),
        (false, false) => Err(Status::no_such_resource()),
    }
}

/// What admission must know of an object of another kind that is sent to a subresource.
fn write_of<'a>(call: &'a Call, operation: Operation, kind: Kind<'a>) -> Write<'a> {
    Write {
        user: &call.user,
        operation,
        resource: &call.resource,
        sent: None,
        subresource: call.path.subresource(),
        kind: Some(kind),
        namespace: call.path.namespace(),
        name: call.path.name(),
        prefix: "",
        old: None,
        dry_run: dry_run(call),
        options: Some(&call.options),
    }
}

/// `dryRun=All` of a write; other values were refused before.
fn dry_run(call: &Call) -> bool {
    call.query.all("dryRun").any(|value| value == "All")
}

/// How a write is to be made, and in whose name.
fn manner(call: &Call) -> Manner {
    let (writer, by, options) = (Some(writer(call)), Some(call.user.clone()), call.options.clone());
    Manner { dry_run: dry_run(call), writer, by, options }
}

/// The writer of a request: `fieldManager`, or the first word of the user agent, where there is one.
fn writer(call: &Call) -> Writer {
    let agent =
        call.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let agent = agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown");
    let manager = call.query.get("fieldManager").filter(|name| !name.is_empty()).unwrap_or(agent);
    Writer {
        manager: manager.to_owned(),
        api_version: call.resource.api_version(),
        subresource: call.path.subresource().to_owned(),
        time: super::object_meta::now(),
    }
}
