//! Claims of stateful sets that are on their way out when their pods come back.

use super::*;
use k8s_openapi::api::core::v1::Event;
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
