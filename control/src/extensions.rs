//! Custom resource definitions at work: rows come into the table of resources and leave it as definitions do.
//!
//! A definition is established when its rows are in the table; its status says so. One that is deleted stays, by its
//! finalizer, until every object of its kind is gone, for nobody could delete them afterwards.

use crate::aggregation::local;
use crate::registry::{Table, custom};
use crate::server::Server;
use futures_util::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Keeps a deleted definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Between two looks at the objects that keep a deleted definition.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);

/// Puts the definitions that are there into the table. Runs before anything is served.
pub(crate) async fn load(server: &Server, client: &Client) -> Result<(), kube::Error> {
    for definition in definitions(client).list(&ListParams::default()).await? {
        add(&server.table, &as_value(&definition));
    }
    Ok(())
}

/// Follows the definitions until `shutdown` turns true.
pub(crate) async fn run(server: Arc<Server>, client: Client, mut shutdown: watch::Receiver<bool>) {
    tokio::select! {
        () = follow(&server, &client) => {}
        // An error means that the sender is gone, which is a shutdown as well.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

async fn follow(server: &Server, client: &Client) {
    let events = watcher::watcher(definitions(client), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut leaving: BTreeMap<String, DynamicObject> = BTreeMap::new();
    loop {
        let next = tokio::time::timeout(CLEANUP_INTERVAL, events.next());
        let event = if leaving.is_empty() {
            events.next().await
        } else {
            next.await.unwrap_or(Some(Ok(Event::Init)))
        };
        match event {
            Some(Ok(Event::Apply(definition) | Event::InitApply(definition))) => {
                if definition.metadata.deletion_timestamp.is_some() {
                    leaving.insert(definition.name_any(), definition);
                } else if let Err(error) = establish(server, client, &definition).await {
                    tracing::warn!(definition = definition.name_any(), %error, "custom resource definition");
                }
            }
            Some(Ok(Event::Delete(definition))) => {
                leaving.remove(&definition.name_any());
                remove(&server.table, &as_value(&definition));
                local::sync(server, client).await;
            }
            Some(Ok(Event::InitDone)) => local::sync(server, client).await,
            Some(Ok(Event::Init)) => {}
            Some(Err(error)) => tracing::warn!(%error, "watching custom resource definitions"),
            None => return,
        }
        clean_up(client, &mut leaving).await;
    }
}

/// Serves the kind and says so in the status.
async fn establish(server: &Server, client: &Client, definition: &DynamicObject) -> Result<(), kube::Error> {
    let (table, value) = (&server.table, as_value(definition));
    let accepted = conflict(table, &value).is_none();
    if accepted {
        add(table, &value);
        local::sync(server, client).await;
    }
    let status = status(&value, conflict(table, &value));
    if value.get("status") == Some(&status) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": status}));
    definitions(client).patch_status(&definition.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Deletes what keeps deleted definitions, and lets those go that nothing keeps any more.
async fn clean_up(client: &Client, leaving: &mut BTreeMap<String, DynamicObject>) {
    let mut gone = Vec::new();
    for (name, definition) in leaving.iter() {
        match delete_objects(client, definition).await {
            Ok(0) => match release(client, definition).await {
                Ok(()) => gone.push(name.clone()),
                Err(error) => {
                    tracing::warn!(definition = name, %error, "releasing a custom resource definition")
                }
            },
            Ok(_) => {}
            Err(error) => tracing::warn!(definition = name, %error, "deleting the objects of a definition"),
        }
    }
    leaving.retain(|name, _| !gone.contains(name));
}

/// Asks every object of the kind to go; gives how many there were.
async fn delete_objects(client: &Client, definition: &DynamicObject) -> Result<usize, kube::Error> {
    let value = as_value(definition);
    let Some(row) = custom::rows(&value).into_iter().find(|row| row.stored_as.is_none()) else {
        return Ok(0);
    };
    let kind = GroupVersionKind::gvk(&row.group, &row.version, &row.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &row.plural);
    let all: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &resource);
    let objects = all.list_metadata(&ListParams::default()).await?.items;
    for object in objects.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(objects.len())
}

async fn release(client: &Client, definition: &DynamicObject) -> Result<(), kube::Error> {
    let kept: Vec<&String> = definition.finalizers().iter().filter(|name| *name != FINALIZER).collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": kept}}));
    match definitions(client).patch(&definition.name_any(), &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

fn definitions(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()))
}

fn as_value(definition: &DynamicObject) -> Value {
    let mut value = definition.data.clone();
    value["metadata"] = json!({"name": definition.name_any()});
    value
}

fn text<'a>(definition: &'a Value, pointer: &str) -> &'a str {
    definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Serves exactly the versions that the definition serves now.
fn add(table: &Table, definition: &Value) {
    if conflict(table, definition).is_some() {
        return;
    }
    let rows = custom::rows(definition);
    let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
    for old in table.all().iter().filter(|old| old.group == group && old.plural == plural) {
        if !rows.iter().any(|row| row.version == old.version) {
            table.remove(group, &old.version, plural);
        }
    }
    rows.into_iter().for_each(|row| table.insert(row));
}

fn remove(table: &Table, definition: &Value) {
    let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
    for row in
        table.all().iter().filter(|row| row.group == group && row.plural == plural && row.schema.is_some())
    {
        table.remove(group, &row.version, plural);
    }
}

/// The name that somebody else in the group has already.
fn conflict(table: &Table, definition: &Value) -> Option<String> {
    let group = text(definition, "/spec/group");
    let (plural, kind) = (text(definition, "/spec/names/plural"), text(definition, "/spec/names/kind"));
    let taken = table.all().into_iter().filter(|row| row.group == group).find(|row| {
        let own = row.plural == plural && row.schema.is_some();
        !own && (row.plural == plural || row.kind == kind)
    })?;
    let name = if taken.plural == plural { plural } else { kind };
    Some(format!("{name:?} is already in use"))
}

/// The status of a definition whose names are free, or not.
fn status(definition: &Value, conflict: Option<String>) -> Value {
    let old = definition.get("status").cloned().unwrap_or_default();
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let state = if holds { "True" } else { "False" };
        let before =
            old["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
        let unchanged = before.filter(|condition| condition["status"] == state);
        let since = unchanged.map(|condition| condition["lastTransitionTime"].clone());
        let since = since.unwrap_or_else(|| format!("{:.0}", Timestamp::now()).into());
        json!({"type": kind, "status": state, "reason": reason, "message": message, "lastTransitionTime": since})
    };
    let conditions = match &conflict {
        None => [
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        Some(taken) => [
            condition("NamesAccepted", false, "Conflict", taken),
            condition("Established", false, "NotAccepted", "not all names are accepted"),
        ],
    };
    let names = if conflict.is_none() {
        definition["spec"]["names"].clone()
    } else {
        json!({"plural": "", "kind": ""})
    };
    let mut versions: Vec<Value> = old["storedVersions"].as_array().cloned().unwrap_or_default();
    let storage = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|version| version["storage"] == true);
    if let Some(name) = storage.map(|version| version["name"].clone())
        && !versions.contains(&name)
    {
        versions.push(name);
    }
    json!({"acceptedNames": names, "conditions": conditions, "storedVersions": versions})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(group: &str, plural: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": "Cluster",
            "names": {"kind": "Crew", "plural": plural, "singular": "crew"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    }

    #[test]
    fn rows_come_and_go_with_definitions() {
        let table = Table::builtin();
        let mut crews = definition("ships.example.com", "crews");
        add(&table, &crews);
        assert!(table.find("ships.example.com", "v1", "crews").is_some());
        crews["spec"]["versions"][0]["name"] = json!("v2");
        add(&table, &crews);
        assert!(table.find("ships.example.com", "v1", "crews").is_none(), "a version that is served no more");
        remove(&table, &crews);
        assert!(table.find("ships.example.com", "v2", "crews").is_none());
    }

    #[test]
    fn built_in_kinds_are_not_replaced() {
        let table = Table::builtin();
        let intruder = definition("networking.k8s.io", "ingresses");
        add(&table, &intruder);
        remove(&table, &intruder);
        assert_eq!(table.find("networking.k8s.io", "v1", "ingresses").unwrap().kind, "Ingress");
        let status = status(&intruder, conflict(&table, &intruder));
        assert_eq!(status["conditions"][0]["message"], "\"ingresses\" is already in use");
    }
}
