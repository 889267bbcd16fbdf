//! Telling the API server: a binding, or why there is none.

use crate::controllers::informer::Key;
use crate::controllers::runner::{ignore_not_found, message_of};
use crate::controllers::volume_match::SELECTED_NODE;
use crate::server::Direct;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Binds a pod to a node. A pod that is gone needs no node.
pub(super) async fn bind(
    client: &Client,
    direct: Option<&Direct>,
    pod: &Pod,
    node: &str,
) -> Result<(), String> {
    let Some(direct) = direct else {
        return post(client, pod, node).await.map_err(|error| message_of(&error));
    };
    match direct.bind(&Key::of(pod), pod.metadata.uid.as_deref().unwrap_or_default(), node).await {
        Err(status) if status.code != 404 => Err(status.message),
        _ => Ok(()),
    }
}

async fn post(client: &Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name_any(), "namespace": pod.namespace(), "uid": pod.uid()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let result: Result<serde_json::Value, _> = api(client, pod)
        .create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding)
        .await;
    ignore_not_found(result)
}

/// Condition PodScheduled=False, unless it says so already.
pub(super) async fn mark_waiting(
    client: &Client,
    pod: &Pod,
    (reason, message): (&str, &str),
) -> Result<(), kube::Error> {
    let old = crate::controllers::pods::condition(pod, "PodScheduled");
    let says =
        |old: &PodCondition| (old.reason.as_deref(), old.message.as_deref()) == (Some(reason), Some(message));
    if old.is_some_and(|old| old.status == "False" && says(old)) {
        return Ok(());
    }
    let since = old.filter(|old| old.status == "False").and_then(|old| old.last_transition_time.clone());
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or(Time(Timestamp::now())),
    });
    let patch =
        Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
    ignore_not_found(api(client, pod).patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)
}

/// Says for which node others are ended.
pub(super) async fn nominate(client: &Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid()}, "status": {"nominatedNodeName": node}}));
    ignore_not_found(api(client, pod).patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)
}

/// Ends a pod of lower priority, saying on it why.
pub(super) async fn preempt(client: &Client, victim: &Pod) -> Result<(), kube::Error> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
        "lastTransitionTime": Time(Timestamp::now()),
    });
    let patch =
        Patch::Strategic(json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": [condition]}}));
    let (api, name) = (api(client, victim), victim.name_any());
    ignore_not_found(api.patch_status(&name, &PatchParams::default(), &patch).await)?;
    let parameters =
        DeleteParams::default().preconditions(Preconditions { uid: victim.uid(), resource_version: None });
    ignore_not_found(api.delete(&name, &parameters).await)
}

/// Tells the binder of claims which node their first pod goes to.
pub(super) async fn select_node(
    client: &Client,
    claim: &PersistentVolumeClaim,
    node: &str,
) -> Result<(), kube::Error> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({"metadata": {"uid": claim.uid(), "annotations": {SELECTED_NODE: node}}}));
    ignore_not_found(api.patch(&claim.name_any(), &PatchParams::default(), &patch).await)
}

fn api(client: &Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default())
}
