//! Owners that are not where a reference looks for them.

use super::*;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::ListParams;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_in_another_namespace_owns_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let other = namespaces
        .create(
            &PostParams::default(),
            &serde_json::from_value(json!({"metadata": {"name": "elsewhere"}})).unwrap(),
        )
        .await
        .unwrap();
    let far: Api<ConfigMap> = Api::namespaced(client.clone(), "elsewhere");
    let map = serde_json::from_value(json!({"metadata": {"name": "owner"}})).unwrap();
    let owner = far.create(&PostParams::default(), &map).await.unwrap();
    let owned_by = |kind: &str, name: &str, uid: Option<String>| json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}]);
    let lost =
        json!({"metadata": {"name": "lost", "ownerReferences": owned_by("ConfigMap", "owner", owner.uid())}});
    let kept = json!({"metadata": {"name": "kept", "ownerReferences": owned_by("Namespace", "elsewhere", other.uid())}});
    let maps = create::<ConfigMap>(&client, kept).await;
    // An object of the whole cluster cannot say in which namespace its owner is: it stays.
    let wide = json!({"metadata": {"name": "wide", "ownerReferences": owned_by("ConfigMap", "none", Some("x".to_owned()))}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(wide).unwrap()).await.unwrap();
    create::<ConfigMap>(&client, lost).await;
    gone(&maps, "lost").await;
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let told = tokio::time::timeout(DEADLINE, async {
        loop {
            let found = events.list(&ListParams::default().fields("reason=OwnerRefInvalidNamespace")).await;
            if let Some(event) = found.unwrap().items.pop() {
                return event.message.unwrap_or_default();
            }
            tokio::task::yield_now().await;
        }
    });
    let uid = owner.uid().unwrap();
    let expected = format!(
        "ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: {uid}] does not exist in namespace \"default\""
    );
    assert_eq!(told.await.unwrap(), expected);
    assert!(maps.get_opt("kept").await.unwrap().is_some());
    assert!(namespaces.get("wide").await.unwrap().metadata.deletion_timestamp.is_none());
    far.get("owner").await.unwrap();
    plane.shutdown().await.unwrap();
}
