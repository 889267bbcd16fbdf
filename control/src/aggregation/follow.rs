//! Follows the APIServices: each that names a service has a task that looks after it, which asks whether it answers and
//! says so in its status.

use super::availability::{Finding, find_out};
use super::{Remote, local};
use crate::server::{Server, stopped};
use futures_util::{StreamExt as _, pin_mut};
use jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks at the service.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two questions to a server that answers.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Follows them until `shutdown` turns true.
pub(crate) async fn run(server: Arc<Server>, client: Client, mut shutdown: watch::Receiver<bool>) {
    tokio::select! {
        () = follow(&server, &client) => {}
        () = stopped(&mut shutdown) => {}
    }
}

/// The task of one server; ends with this.
struct Keeper(tokio::task::JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn api(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<APIService>(&()))
}

async fn follow(server: &Arc<Server>, client: &Client) {
    let events = watcher::watcher(api(client), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let (mut keepers, mut listed) = (BTreeMap::new(), BTreeSet::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object)) => seen(server, client, &object, &mut keepers).await,
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                seen(server, client, &object, &mut keepers).await;
                listed.insert(object.name_any());
            }
            // What went while nobody watched.
            Ok(Event::InitDone) => {
                keepers.retain(|name, _| listed.contains(name));
                server.aggregation.retain(&listed);
                server.aggregation.set_followed();
            }
            Ok(Event::Delete(object)) => {
                keepers.remove(&object.name_any());
                server.aggregation.remove(&as_value(&object));
                local::sync(server, client).await;
            }
            Err(error) => tracing::warn!(%error, "watching API services"),
        }
    }
}

fn as_value(object: &DynamicObject) -> Value {
    let mut value = object.data.clone();
    value["metadata"] = json!({"name": object.name_any(), "labels": object.labels()});
    value
}

async fn seen(
    server: &Arc<Server>,
    client: &Client,
    object: &DynamicObject,
    keepers: &mut BTreeMap<String, Keeper>,
) {
    let (name, value) = (object.name_any(), as_value(object));
    if local::is_changed(&value) {
        // What it says is not what it will say.
        return local::sync(server, client).await;
    }
    if let Some(remote) = server.aggregation.set(&value) {
        let task = keep(server.clone(), client.clone(), remote);
        // The one before ends as it is replaced.
        keepers.insert(name, Keeper(tokio::spawn(task)));
    } else if value.pointer("/spec/service").is_none_or(Value::is_null) {
        keepers.remove(&name);
        tell(client, &name, &Finding::local(), Some(&value)).await;
    }
}

/// Looks after one server.
async fn keep(server: Arc<Server>, client: Client, remote: Arc<Remote>) {
    let mut before = None;
    let mut asked: Option<Instant> = None;
    let mut told: Option<Finding> = None;
    loop {
        let targets = remote.targets(&server).await;
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
        let went_wrong = told.as_ref().is_none_or(|told| !told.is_available());
        if is_due || went_wrong || before.as_ref() != Some(&targets) {
            let finding = find_out(&remote, targets.clone()).await;
            if finding.is_available()
                && let Some(target) = targets.as_ref().ok().and_then(|targets| targets.first())
            {
                remote.refresh(target).await;
            }
            remote.set_available(finding.is_available());
            tell(&client, &remote.name, &finding, None).await;
            (before, asked, told) = (Some(targets), Some(Instant::now()), Some(finding));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Writes a finding down, unless it stands there.
async fn tell(client: &Client, name: &str, finding: &Finding, known: Option<&Value>) {
    let written = async {
        let api = api(client);
        let found = match known {
            Some(known) => known.clone(),
            None => api.get_opt(name).await?.map(|object| object.data).unwrap_or_default(),
        };
        let conditions = found["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(conditions) = finding.among(conditions, Timestamp::now()) else { return Ok(()) };
        let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop),
        }
    };
    if let Err(error) = written.await {
        tracing::warn!(api_service = name, %error, "say whether it is available");
    }
}
