//! Claims of stateful sets that are on their way out when their pods come back.

use super::*;
use k8s_openapi::api::core::v1::{Event, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_until_a_claim_that_goes_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let size = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    let held = json!({"metadata": {"name": "www-db-0", "finalizers": ["example.com/held"]}, "spec": size});
    let claims = create::<PersistentVolumeClaim>(&client, held).await;
    let old = claims.get("www-db-0").await.unwrap().uid();
    claims.delete("www-db-0", &DeleteParams::default()).await.unwrap();
    let template =
        json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template, "volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": size}]}});
    create::<StatefulSet>(&client, set).await;
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let failed = ListParams::default().fields("reason=FailedCreate");
    let told = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(event) = events.list(&failed).await.unwrap().items.pop() {
                return event.message.unwrap_or_default();
            }
            tokio::task::yield_now().await;
        }
    });
    let expected = "create Pod db-0 in StatefulSet db failed error: pvc www-db-0 is being deleted";
    assert_eq!(told.await.unwrap(), expected);
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    assert!(pods.get_opt("db-0").await.unwrap().is_none());
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("www-db-0", &PatchParams::default(), &free).await.unwrap();
    until(pods, "db-0", |_| true).await;
    assert_ne!(claims.get("www-db-0").await.unwrap().uid(), old);
    plane.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_a_pods_own_comes_and_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    node(&client).await;
    let template = json!({"metadata": {"labels": {"type": "scratch"}}, "spec": {"storageClassName": "local-path",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    let volume = json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}});
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "volumes": [volume]});
    let pods = create::<Pod>(&client, json!({"metadata": {"name": "p"}, "spec": spec})).await;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
    let is_bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    };
    let claim = until(claims.clone(), "p-scratch", is_bound).await;
    assert_eq!(claim.labels()["type"], "scratch");
    until(pods.clone(), "p", |pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).await;
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    gone(&claims, "p-scratch").await;
    plane.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_a_volume_is_said_on_the_claim() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let classes: Api<StorageClass> = Api::all(client.clone());
    let class = json!({"metadata": {"name": "far"}, "provisioner": "disks.example.com"});
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let spec = json!({"storageClassName": "far", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}});
    let object = json!({"metadata": {"name": "data"}, "spec": spec});
    let claims = create::<PersistentVolumeClaim>(&client, object).await;
    let is_told = |claim: &PersistentVolumeClaim| {
        let says = |key: &str| claim.annotations().get(key).is_some_and(|name| name == "disks.example.com");
        says("volume.kubernetes.io/storage-provisioner")
            && says("volume.beta.kubernetes.io/storage-provisioner")
    };
    let claim = until(claims.clone(), "data", is_told).await;
    // What the provisioner makes is set aside for the claim; a smaller one could not be.
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let owner = json!({"namespace": "default", "name": "data", "uid": claim.uid()});
    let volume = json!({"metadata": {"name": "made", "annotations": {"pv.kubernetes.io/provisioned-by": "disks.example.com"}},
        "spec": {"storageClassName": "far", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"},
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": owner,
            "csi": {"driver": "disks.example.com", "volumeHandle": "1"}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    until(claims.clone(), "data", |claim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    })
    .await;
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    until(volumes, "made", |volume| {
        volume.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Released"))
    })
    .await;
    plane.shutdown().await.unwrap();
}

/// A volume that names its claim serves it whatever its class, as those do that people write by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_set_aside_serves_another_class() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = json!({"metadata": {"name": "byhand"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Mi"}, "hostPath": {"path": "/mnt"}, "claimRef": {"namespace": "default", "name": "data"}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let spec = json!({"storageClassName": "other", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}});
    let object = json!({"metadata": {"name": "data"}, "spec": spec});
    let claims = create::<PersistentVolumeClaim>(&client, object).await;
    let bound = until(claims, "data", |claim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    })
    .await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("byhand"));
    plane.shutdown().await.unwrap();
}
