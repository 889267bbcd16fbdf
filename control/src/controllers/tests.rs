//! The controllers at work against the real server: pods are played by hand, everything else is the product.

use crate::{ControlPlane, Options};
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, ReplicationController};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, wait::await_condition, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

mod attaching;
mod budgets;
mod claims;
mod leading;
mod letting_go;
mod owners;
mod provisioning;
mod scheduling;
mod tokens;
mod typing;

const DEADLINE: Duration = Duration::from_secs(120);

async fn plane(directory: &std::path::Path) -> ControlPlane {
    let mut options = Options::new(directory.to_path_buf());
    options.listen = "127.0.0.1:0".parse().unwrap();
    options.advertise = Some("127.0.0.1".parse().unwrap());
    ControlPlane::start(options).await.unwrap()
}

/// Plays the node: pods bound to it run and are ready; pods of jobs succeed.
async fn play(client: Client) {
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut events =
        watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    // A watch that breaks off is begun anew.
    while let Some(event) = events.next().await {
        let Ok(pod) = event else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.spec.as_ref().unwrap().node_name.is_some() && phase == Some("Pending") {
            let job = pod.labels().contains_key("batch.kubernetes.io/job-name");
            let phase = if job { "Succeeded" } else { "Running" };
            let ready =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            let status =
                json!({"status": {"phase": phase, "conditions": if job { json!([]) } else { ready }}});
            // The pod may be gone by now.
            let _gone =
                pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await;
        }
    }
}

async fn node(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    // Nobody goes on reporting: on a slow machine it would be given up as silent.
    let ready = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2199-01-01T00:00:00Z"}]);
    let labels = json!({"kubernetes.io/hostname": "n"});
    let node = json!({"metadata": {"name": "n", "labels": labels}, "status": {"conditions": ready,
        "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}, "capacity": {"cpu": "4", "memory": "4Gi", "pods": "110"}}});
    let parameters = PatchParams::default();
    nodes.create(&PostParams::default(), &serde_json::from_value(node.clone()).unwrap()).await.unwrap();
    // Other controllers write the node at the same time, so no version is named.
    let status = json!({"status": node["status"]});
    nodes.patch_status("n", &parameters, &Patch::Merge(status)).await.unwrap();
}

async fn until<K>(api: Api<K>, name: &str, holds: fn(&K) -> bool) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let condition = |object: Option<&K>| object.is_some_and(holds);
    let waited = tokio::time::timeout(DEADLINE, await_condition(api.clone(), name, condition)).await;
    match waited {
        Ok(result) => result.unwrap().unwrap(),
        Err(_) => panic!("not in time: {:?}", api.get(name).await),
    }
}

/// Waits until an object is there no longer.
async fn gone<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let waited = tokio::time::timeout(
        DEADLINE,
        await_condition(api.clone(), name, |object: Option<&K>| object.is_none()),
    );
    assert!(waited.await.is_ok(), "still there: {:?}", api.get(name).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_complete_and_daemons_run() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let player = tokio::spawn(play(client.clone()));
    node(&client).await;
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let jobs: Api<Job> = Api::default_namespaced(client.clone());
    let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 4, "parallelism": 2, "completionMode": "Indexed", "template": template}});
    jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
    let done =
        until(jobs, "j", |job| job.status.as_ref().is_some_and(|status| status.completion_time.is_some()))
            .await;
    assert_eq!(done.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0-3"));
    let template =
        json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let sets: Api<DaemonSet> = Api::default_namespaced(client.clone());
    let set = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    until(sets, "d", |set| set.status.as_ref().is_some_and(|status| status.number_available == Some(1)))
        .await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let finalized = pods.list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(finalized.items.len(), 5);
    player.abort();
    plane.shutdown().await.unwrap();
}

async fn create<K>(client: &Client, object: serde_json::Value) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    api
}

/// As Kubernetes' conformance has it: each waits for the next, and the server stays there for everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_owners_goes() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(plane.client());
    let mut uids = Vec::new();
    for name in ["a", "b", "c"] {
        let map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        uids.push(maps.create(&PostParams::default(), &map).await.unwrap().uid().unwrap());
    }
    for (name, owner, uid) in [("a", "c", &uids[2]), ("b", "a", &uids[0]), ("c", "b", &uids[1])] {
        let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid,
            "controller": true, "blockOwnerDeletion": true}]);
        let owned = Patch::Merge(json!({"metadata": {"ownerReferences": reference}}));
        maps.patch(name, &PatchParams::default(), &owned).await.unwrap();
    }
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    for name in ["a", "b", "c"] {
        let gone = await_condition(maps.clone(), name, |map: Option<&ConfigMap>| map.is_none());
        tokio::time::timeout(DEADLINE, gone).await.unwrap().unwrap();
    }
    plane.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_sets_get_volumes_and_cron_jobs_start() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let player = tokio::spawn(play(client.clone()));
    node(&client).await;
    let template =
        json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "local-path",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 2, "serviceName": "db", "template": template,
        "selector": {"matchLabels": {"app": "db"}}, "volumeClaimTemplates": [claim]}});
    let sets: Api<StatefulSet> = create(&client, set).await;
    until(sets.clone(), "db", |set| {
        set.status
            .as_ref()
            .is_some_and(|status| status.available_replicas == Some(2) && status.updated_replicas == Some(2))
    })
    .await;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
    let bound = until(claims, "data-db-1", |claim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    })
    .await;
    assert_eq!(bound.spec.unwrap().volume_name, Some(format!("pvc-{}", bound.metadata.uid.unwrap())));
    let done = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": done}}}});
    let crons: Api<CronJob> = create(&client, cron).await;
    // A time long past makes the present one due.
    let past = Patch::Merge(json!({"status": {"lastScheduleTime": "2020-01-01T00:00:00Z"}}));
    crons.patch_status("tick", &PatchParams::default(), &past).await.unwrap();
    until(crons, "tick", |cron| {
        cron.status.as_ref().is_some_and(|status| status.last_successful_time.is_some())
    })
    .await;
    let older = json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "selector": {"app": "old"},
        "template": {"metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let older: Api<ReplicationController> = create(&client, older).await;
    until(older, "old", |one| one.status.as_ref().is_some_and(|status| status.ready_replicas == Some(2)))
        .await;
    let target = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"});
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let scaler = json!({"metadata": {"name": "db"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [cpu]}});
    let scalers: Api<HorizontalPodAutoscaler> = create(&client, scaler).await;
    // Nobody measures these pods: the autoscaler knows its target, says what is missing, and leaves it alone.
    until(scalers, "db", |scaler| {
        let conditions = scaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let failed = |reason: &Option<String>| reason.as_deref() == Some("FailedGetResourceMetric");
        conditions.into_iter().any(|one| one.type_ == "ScalingActive" && failed(&one.reason))
    })
    .await;
    player.abort();
    plane.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_important_pod_takes_the_place_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let player = tokio::spawn(play(client.clone()));
    node(&client).await;
    let pod = |name: &str, priority: i32| {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}});
        let class = if priority > 0 { "important" } else { "" };
        json!({"metadata": {"name": name}, "spec": {"priorityClassName": class, "terminationGracePeriodSeconds": 0,
            "priority": priority, "containers": [container]}})
    };
    let class = json!({"metadata": {"name": "important"}, "value": 1000});
    let classes: Api<k8s_openapi::api::scheduling::v1::PriorityClass> = Api::all(client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let running =
        |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let pods: Api<Pod> = create(&client, pod("low", 0)).await;
    until(pods.clone(), "low", running).await;
    let _same: Api<Pod> = create(&client, pod("high", 1000)).await;
    until(pods.clone(), "high", running).await;
    assert!(pods.get_opt("low").await.unwrap().is_none(), "it made room");
    player.abort();
    plane.shutdown().await.unwrap();
}
