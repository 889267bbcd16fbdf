//! Certificate signing requests at work: those of joining nodes are approved, approved ones are signed by the
//! cluster's CA, and old ones are taken away.
//!
//! A request passes three hands: admission writes down who asks (and refuses approvals by those who may not),
//! `approval` decides on those that need no person, `signing` makes the certificate.

use crate::authn::User;
use crate::authz::Attributes;
use crate::controllers::runner::message_of;
use crate::pki::Pki;
use crate::registry::fields;
use crate::server::Server;
use futures_util::{StreamExt as _, pin_mut};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

mod approval;
mod request;
mod signing;

pub(crate) use request::KUBE_APISERVER_CLIENT;

/// Between two looks for requests that nobody needs any more.
const CLEAN_INTERVAL: Duration = Duration::from_secs(600);
/// A decided request stays for an hour, an open one for a day.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const OPEN: SignedDuration = SignedDuration::from_hours(24);

/// Follows the requests until `shutdown` turns true.
pub(crate) async fn run(
    server: Arc<Server>,
    client: Client,
    pki: Arc<Pki>,
    mut shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        () = follow(&server, &client, &pki) => {}
        () = clean(&client) => {}
        () = crate::server::stopped(&mut shutdown) => {}
    }
}

fn requests(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<CertificateSigningRequest>(&()))
}

async fn follow(server: &Server, client: &Client, pki: &Arc<Pki>) {
    let events = watcher::watcher(requests(client), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        let request = match event {
            Ok(Event::Apply(request) | Event::InitApply(request)) => request,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(error = message_of(&error), "watching certificate signing requests");
                continue;
            }
        };
        if let Err(error) = advance(server, client, pki, &request).await {
            tracing::warn!(
                request = request.name_any(),
                error = message_of(&error),
                "certificate signing request"
            );
        }
    }
}

/// The next step of one request.
async fn advance(
    server: &Server,
    client: &Client,
    pki: &Arc<Pki>,
    request: &DynamicObject,
) -> Result<(), kube::Error> {
    let value = json!({"spec": request.data["spec"], "status": request.data["status"]});
    let (conditions, part) = match state(&value) {
        State::Open => match approved(server, &value).await {
            Some(condition) => (json!({"conditions": [condition]}), "approval"),
            None => return Ok(()),
        },
        State::Approved => {
            let pki = pki.clone();
            let made = tokio::task::spawn_blocking(move || signing::sign(&pki, &value)).await;
            match made.map_err(|error| kube::Error::Service(error.into()))? {
                Some(status) => (status, "status"),
                None => return Ok(()),
            }
        }
        State::Done => return Ok(()),
    };
    let patch = Patch::Merge(json!({"status": conditions}));
    let (api, name) = (requests(client), request.name_any());
    let parameters = PatchParams::default();
    match api.patch_subresource(part, &name, &parameters, &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Approved,
    Done,
}

fn state(request: &Value) -> State {
    let has = |kind: &str| fields::list(request, "/status/conditions").iter().any(|one| one["type"] == kind);
    let issued = !fields::text(request, "/status/certificate").is_empty();
    if issued || has("Denied") || has("Failed") {
        State::Done
    } else if has("Approved") {
        State::Approved
    } else {
        State::Open
    }
}

/// The condition that approves a request of a node, if roles let its user ask for that.
async fn approved(server: &Server, request: &Value) -> Option<Value> {
    let user = requester(request);
    let kind = approval::recognize(request)?;
    let asked = Attributes::Resource {
        verb: "create",
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        subresource: kind.subresource(),
        namespace: "",
        name: "",
        fields: None,
    };
    server.may(&user, &asked).await.then(|| kind.condition())
}

fn requester(request: &Value) -> User {
    let groups = fields::list(request, "/spec/groups").iter().filter_map(Value::as_str).map(str::to_owned);
    User {
        name: fields::text(request, "/spec/username").to_owned(),
        groups: groups.collect(),
        uid: fields::text(request, "/spec/uid").to_owned(),
        ..User::default()
    }
}

/// Takes away what is old.
async fn clean(client: &Client) {
    loop {
        tokio::time::sleep(CLEAN_INTERVAL).await;
        let list = match requests(client).list(&kube::api::ListParams::default()).await {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(error = message_of(&error), "list certificate signing requests");
                continue;
            }
        };
        for request in list.items.iter().filter(|request| is_old(request, Timestamp::now())) {
            if let Err(error) = requests(client).delete(&request.name_any(), &DeleteParams::default()).await {
                tracing::debug!(
                    request = request.name_any(),
                    error = message_of(&error),
                    "delete an old request"
                );
            }
        }
    }
}

fn is_old(request: &DynamicObject, now: Timestamp) -> bool {
    let Some(Time(created)) = &request.metadata.creation_timestamp else { return false };
    let status = json!({"status": request.data["status"]});
    if state(&status) == State::Open {
        return now.duration_since(*created) > OPEN;
    }
    // Whoever asked has to have time to fetch the answer, however late it came.
    let written = fields::list(&status, "/status/conditions").iter();
    let written = written.filter_map(|one| fields::text(one, "/lastUpdateTime").parse::<Timestamp>().ok());
    now.duration_since(written.max().unwrap_or(*created).max(*created)) > DECIDED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_for_a_while_after_it_was_decided() {
        let request = |conditions: Value| -> DynamicObject {
            serde_json::from_value(json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": conditions}}))
            .unwrap()
        };
        let at = |time: &str| format!("2026-01-0{time}:00Z").parse::<Timestamp>().unwrap();
        let open = request(json!([]));
        assert!(!is_old(&open, at("1T23:59")) && is_old(&open, at("2T00:01")));
        let late = request(json!([{"type": "Approved", "lastUpdateTime": "2026-01-01T23:00:00Z"}]));
        assert!(!is_old(&late, at("1T23:59")) && is_old(&late, at("2T00:01")));
        let denied = request(json!([{"type": "Denied"}]));
        assert!(!is_old(&denied, at("1T00:59")) && is_old(&denied, at("1T01:01")));
    }
}
