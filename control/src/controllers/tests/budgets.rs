//! Budgets of pods whose owners ask for more of them than there are.

use super::*;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

fn budget(name: &str, spec: serde_json::Value) -> serde_json::Value {
    let mut object =
        json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": name}}}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

/// Without a node the first pod never gets ready, so the set never makes the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_not_there_are_missing() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let template = |app: &str| {
        json!({"metadata": {"labels": {"app": app}},
            "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}})
    };
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 3, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "template": template("db")}});
    create::<StatefulSet>(&client, set).await;
    let mut once = template("once");
    once["spec"]["restartPolicy"] = "Never".into();
    create::<Job>(&client, json!({"metadata": {"name": "once"}, "spec": {"template": once}})).await;
    create::<PodDisruptionBudget>(&client, budget("db", json!({"maxUnavailable": 1}))).await;
    let budgets = create::<PodDisruptionBudget>(&client, budget("once", json!({"maxUnavailable": 1}))).await;
    let counted =
        |budget: &PodDisruptionBudget| budget.status.as_ref().is_some_and(|status| status.expected_pods == 3);
    let status = until(budgets.clone(), "db", counted).await.status.unwrap();
    assert_eq!((status.desired_healthy, status.current_healthy, status.disruptions_allowed), (2, 0, 0));
    let failed = |budget: &PodDisruptionBudget| {
        let conditions = budget.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| {
            one.reason == "SyncFailed" && one.message == "jobs.batch does not implement the scale subresource"
        })
    };
    until(budgets, "once", failed).await;
    plane.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_was_to_be_ended_long_ago_says_so_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let pods = create::<Pod>(&client, json!({"metadata": {"name": "left"}, "spec": spec})).await;
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "preempting", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    pods.patch_status("left", &PatchParams::default(), &status).await.unwrap();
    let target = |pod: &Pod| {
        let conditions = pod.status.as_ref()?.conditions.clone()?;
        conditions.into_iter().find(|one| one.type_ == "DisruptionTarget")
    };
    let is_over = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.type_ == "DisruptionTarget" && one.status == "False")
    };
    let over = target(&until(pods, "left", is_over).await).unwrap();
    assert_eq!(over.reason.as_deref(), Some("PreemptionByScheduler"), "why it was to be ended stays");
    plane.shutdown().await.unwrap();
}
