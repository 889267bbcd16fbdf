//! `/runningpods/`: the pods that the runtime runs, whatever the kubelet thinks of them.

use super::Shared;
use super::respond::{Body, Refusal, json};
use http::Response;
use knarr_cri::v1;
use serde_json::json;

pub(super) async fn list(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let sandboxes = shared.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await?.items;
    let containers =
        shared.runtime.list_containers(v1::ListContainersRequest { filter: None }).await?.containers;
    let items: Vec<_> = sandboxes
        .iter()
        .filter(|sandbox| sandbox.state() == v1::PodSandboxState::SandboxReady)
        .map(|sandbox| pod(sandbox, &containers))
        .collect();
    Ok(json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

fn pod(sandbox: &v1::PodSandbox, containers: &[v1::Container]) -> serde_json::Value {
    let metadata = sandbox.metadata.clone().unwrap_or_default();
    let running = |container: &&v1::Container| {
        container.pod_sandbox_id == sandbox.id && container.state() == v1::ContainerState::ContainerRunning
    };
    let containers: Vec<_> = containers
        .iter()
        .filter(running)
        .map(|container| {
            let name = container.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
            json!({"name": name, "image": container.image_ref, "resources": {}})
        })
        .collect();
    json!({
        "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "spec": {"containers": containers},
        "status": {},
    })
}
