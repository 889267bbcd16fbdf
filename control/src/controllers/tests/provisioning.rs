//! Volumes made on demand, where something stands in the way.

use super::*;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Event;

/// Nobody may make volumes any more.
async fn forbid_volumes(client: &Client) -> Api<ValidatingAdmissionPolicyBinding> {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["persistentvolumes"]});
    let policy = json!({"metadata": {"name": "none"}, "spec": {"matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "the disks are full"}]}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let binding =
        json!({"metadata": {"name": "none"}, "spec": {"policyName": "none", "validationActions": ["Deny"]}});
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    bindings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_cannot_be_made_is_told_of_and_made_later() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    node(&client).await;
    let bindings = forbid_volumes(&client).await;
    let claim = json!({"metadata": {"name": "data", "annotations": {"volume.kubernetes.io/selected-node": "n"}},
        "spec": {"storageClassName": "local-path", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}}}});
    let claims: Api<PersistentVolumeClaim> = create(&client, claim).await;
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let failures = watcher::Config::default().fields("reason=ProvisioningFailed");
    let told = watcher(events, failures).default_backoff().applied_objects();
    // Before that its class may not be there yet.
    let is_ours = |event: &Event| event.message.as_deref().unwrap_or_default().starts_with("Error creating");
    let mut told = told.filter_map(|event| async { event.ok().filter(is_ours) }).boxed();
    let told = tokio::time::timeout(DEADLINE, told.next()).await.unwrap().unwrap();
    let message = told.message.unwrap();
    assert!(
        message.starts_with("Error creating provisioned PV object for claim default/data: persistentvolumes")
            && message.ends_with("the disks are full. Deleting the volume."),
        "{message}"
    );
    assert_eq!(
        (told.type_.as_deref(), told.involved_object.name.as_deref()),
        (Some("Warning"), Some("data"))
    );
    bindings.delete("none", &DeleteParams::default()).await.unwrap();
    until(claims, "data", |claim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    })
    .await;
    plane.shutdown().await.unwrap();
}
