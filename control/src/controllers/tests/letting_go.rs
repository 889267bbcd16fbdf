//! Pods that their job lets go, or that outlive it: nobody counts them, so nothing of the counting may hold them.

use super::*;
use serde_json::Value;

fn is_free(pod: &Pod) -> bool {
    pod.metadata.owner_references.is_none() && pod.metadata.finalizers.is_none()
}

/// The only pod that the selector finds, once it is there.
async fn first(pods: &Api<Pod>, labels: &str) -> String {
    let wanted = kube::api::ListParams::default().labels(labels);
    let found = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(pod) = pods.list(&wanted).await.unwrap().items.first() {
                return pod.name_any();
            }
            tokio::task::yield_now().await;
        }
    });
    found.await.unwrap()
}

fn job(name: &str) -> Value {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    json!({"metadata": {"name": name}, "spec": {"template": {"spec": spec}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_holds_a_pod_that_no_job_counts() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let jobs = create::<Job>(&client, job("a")).await;
    create::<Job>(&client, job("b")).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());

    let released = first(&pods, "job-name=a").await;
    let unlabelled = Patch::Merge(json!({"metadata": {"labels": null}}));
    pods.patch(&released, &PatchParams::default(), &unlabelled).await.unwrap();
    until(pods.clone(), &released, is_free).await;
    let another = first(&pods, "job-name=a").await;
    assert_ne!(another, released);

    let left = first(&pods, "job-name=b").await;
    jobs.delete("b", &DeleteParams::orphan()).await.unwrap();
    until(pods.clone(), &left, is_free).await;
    plane.shutdown().await.unwrap();
}
