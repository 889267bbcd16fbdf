//! Attachments of volumes, with the driver's attacher played through the API as the real sidecar does it: its finalizers,
//! its status, its order of steps.

use super::*;
use k8s_openapi::api::core::v1::{Event, PersistentVolume};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use serde_json::Value;

const DRIVER: &str = "disk.example.com";
const FINALIZER: &str = "external-attacher/disk-example-com";
const IN_STATUS: &str = "kubernetes.io/csi/disk.example.com^disk-1";

/// The attacher of the driver.
async fn attach(client: Client) {
    let attachments: Api<VolumeAttachment> = Api::all(client.clone());
    let mut events =
        watcher(attachments.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(event) = events.next().await {
        let Ok(attachment) = event else { continue };
        if attachment.spec.attacher == DRIVER {
            // It may be gone by now, or be written by its owner: another event follows.
            let _later = step(&client, &attachments, &attachment).await;
        }
    }
}

async fn step(
    client: &Client,
    attachments: &Api<VolumeAttachment>,
    attachment: &VolumeAttachment,
) -> Result<(), kube::Error> {
    let (name, parameters) = (attachment.name_any(), PatchParams::default());
    let marked = attachment.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let attached = attachment.status.as_ref().is_some_and(|status| status.attached);
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    let status = |status: Value| Patch::Merge(json!({"status": status}));
    match (attachment.metadata.deletion_timestamp.is_some(), marked, attached) {
        (false, false, _) => {
            let volumes: Api<PersistentVolume> = Api::all(client.clone());
            let volume = attachment.spec.source.persistent_volume_name.clone().unwrap_or_default();
            volumes.patch(&volume, &parameters, &finalizers(json!([FINALIZER]))).await?;
            attachments.patch(&name, &parameters, &finalizers(json!([FINALIZER]))).await?;
        }
        (false, true, false) => {
            let done = json!({"attached": true, "attachmentMetadata": {"device": "/dev/xvdb"}});
            attachments.patch_status(&name, &parameters, &status(done)).await?;
        }
        (true, true, true) => {
            let done = json!({"attached": false, "attachmentMetadata": null});
            attachments.patch_status(&name, &parameters, &status(done)).await?;
        }
        (true, true, false) => {
            attachments.patch(&name, &parameters, &finalizers(json!([]))).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn make<K>(client: &Client, object: Value) -> Api<K>
where
    K: kube::Resource<DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    api
}

fn pod_on(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}})
}

fn is_told(node: &Node) -> bool {
    let attached = node.status.iter().flat_map(|status| status.volumes_attached.iter().flatten());
    attached.into_iter().any(|volume| volume.name == IN_STATUS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_plugged_in_where_its_pod_is() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let players = [tokio::spawn(play(client.clone())), tokio::spawn(attach(client.clone()))];
    node(&client).await;
    let second = json!({"metadata": {"name": "m"}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2199-01-01T00:00:00Z"}]}});
    let nodes: Api<Node> = make(&client, second).await;
    let _driver: Api<CSIDriver> = make(&client, json!({"metadata": {"name": DRIVER}, "spec": {}})).await;
    let volume = json!({"metadata": {"name": "disk"}, "spec": {"capacity": {"storage": "1Gi"}, "storageClassName": "",
        "accessModes": ["ReadWriteOnce"], "csi": {"driver": DRIVER, "volumeHandle": "disk-1"}}});
    let _volume: Api<PersistentVolume> = make(&client, volume).await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {"volumeName": "disk", "storageClassName": "",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let _claim: Api<PersistentVolumeClaim> = create(&client, claim).await;

    let pods: Api<Pod> = create(&client, pod_on("first", "n")).await;
    until(nodes.clone(), "n", is_told).await;
    let attachments: Api<VolumeAttachment> = Api::all(client.clone());
    let all = attachments.list(&kube::api::ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1);
    let first = all[0].name_any();
    assert_eq!((&*all[0].spec.node_name, all[0].finalizers()), ("n", &[FINALIZER.to_owned()][..]));

    // The node has mounted it: as long as it says so nobody takes it away, and nobody else gets it.
    let in_use = |list: Value| Patch::Merge(json!({"status": {"volumesInUse": list}}));
    nodes.patch_status("n", &PatchParams::default(), &in_use(json!([IN_STATUS]))).await.unwrap();
    pods.delete("first", &DeleteParams::default().grace_period(0)).await.unwrap();
    let _same: Api<Pod> = create(&client, pod_on("second", "m")).await;
    refused(&client).await;
    let held = attachments.get(&first).await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_none(), "{held:?}");

    nodes.patch_status("n", &PatchParams::default(), &in_use(Value::Null)).await.unwrap();
    until(nodes.clone(), "m", is_told).await;
    until(nodes.clone(), "n", |node| !is_told(node)).await;
    assert!(attachments.get_opt(&first).await.unwrap().is_none());
    players.iter().for_each(tokio::task::JoinHandle::abort);
    plane.shutdown().await.unwrap();
}

/// Waits until the second pod has heard that another node has the volume.
async fn refused(client: &Client) {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let about = watcher::Config::default().fields("reason=FailedAttachVolume,involvedObject.name=second");
    let mut told = watcher(events, about).default_backoff().applied_objects().boxed();
    let told = tokio::time::timeout(DEADLINE, told.next()).await.unwrap().unwrap().unwrap();
    assert!(told.message.unwrap().starts_with("Multi-Attach error for volume \"disk\""));
}
