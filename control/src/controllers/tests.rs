//! The controllers at work against the real server: pods are played by hand, everything else is the product.

use crate::{ControlPlane, Options};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, wait::await_condition, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

async fn plane(directory: &std::path::Path) -> ControlPlane {
    let mut options = Options::new(directory.to_path_buf());
    options.listen = "127.0.0.1:0".parse().unwrap();
    options.advertise = Some("127.0.0.1".parse().unwrap());
    ControlPlane::start(options).await.unwrap()
}

/// Plays the node: pods bound to it run and are ready; pods of jobs succeed.
async fn play(client: Client) {
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut events = watcher(pods.clone(), watcher::Config::default()).applied_objects().boxed();
    while let Ok(Some(pod)) = events.try_next().await {
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
    let ready =
        json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": jiff::Timestamp::now().to_string()}]);
    let node = json!({"metadata": {"name": "n"}, "status": {"conditions": ready,
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
