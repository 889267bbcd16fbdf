//! From the names in a request to containers and sandboxes of the runtime, by the labels the kubelet puts on them.

use super::Shared;
use super::respond::Refusal;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use knarr_cri::v1;
use std::collections::HashMap;
use std::sync::Arc;

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD: &str = "io.kubernetes.pod.name";
const UID: &str = "io.kubernetes.pod.uid";
const CONTAINER: &str = "io.kubernetes.container.name";

/// The pod as the kubelet knows it.
pub(super) fn pod(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    let is_it = |pod: &Arc<Pod>| {
        pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
    };
    (shared.pods)().into_iter().find(is_it).ok_or_else(|| Refusal::not_found("pod does not exist"))
}

/// All containers of that name in the pod, the latest first.
pub(super) async fn of_name(
    shared: &Shared,
    pod: &Pod,
    container: &str,
) -> Result<Vec<v1::Container>, Refusal> {
    let mut labels = pod_labels(pod);
    labels.insert(CONTAINER.to_owned(), container.to_owned());
    let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
    let request = v1::ListContainersRequest { filter: Some(filter) };
    let mut containers = shared.runtime.list_containers(request).await?.containers;
    let attempt =
        |container: &v1::Container| container.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    containers.sort_by_key(|container| std::cmp::Reverse((attempt(container), container.created_at)));
    Ok(containers)
}

/// The running one.
pub(super) async fn running(
    shared: &Shared,
    namespace: &str,
    pod_name: &str,
    container: &str,
) -> Result<v1::Container, Refusal> {
    let pod = pod(shared, namespace, pod_name)?;
    let containers = of_name(shared, &pod, container).await?;
    let is_running = |candidate: &v1::Container| candidate.state() == v1::ContainerState::ContainerRunning;
    containers
        .into_iter()
        .find(is_running)
        .ok_or_else(|| Refusal::not_found(format!("container not found ({container:?})")))
}

/// The pod's sandbox, if it is up.
pub(super) async fn sandbox(shared: &Shared, namespace: &str, pod_name: &str) -> Result<String, Refusal> {
    let state = v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() };
    let filter = v1::PodSandboxFilter {
        state: Some(state),
        label_selector: pod_labels(&*pod(shared, namespace, pod_name)?),
        ..Default::default()
    };
    let sandboxes =
        shared.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?;
    let latest = sandboxes.items.into_iter().max_by_key(|sandbox| sandbox.created_at);
    let latest = latest.ok_or_else(|| {
        Refusal::not_found(format!("failed to find sandbox for pod {pod_name:?} in namespace {namespace:?}"))
    })?;
    Ok(latest.id)
}

/// What the kubelet has written down about a container, wherever it is listed.
pub(super) fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == container)
}

/// The id of the container's last run that is over, as its status tells.
pub(super) fn ended_last<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let ended = status(pod, container)?.last_state.as_ref()?.terminated.as_ref()?;
    ended.container_id.as_deref().and_then(|id| id.split_once("://")).map(|(_, id)| id)
}

/// Whether the pod has such a container at all.
pub(super) fn is_declared(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.iter().flatten().map(|container| &container.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
    spec.containers
        .iter()
        .map(|container| &container.name)
        .chain(init)
        .chain(ephemeral)
        .any(|n| n == container)
}

fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let facts = [(NAMESPACE, &pod.metadata.namespace), (POD, &pod.metadata.name), (UID, &pod.metadata.uid)];
    facts.into_iter().filter_map(|(label, value)| Some((label.to_owned(), value.clone()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_waits_to_be_started_again_has_ended_last() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"status": {"containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "containerID": "knarr://abc"}}},
            {"name": "d", "image": "i", "imageID": "", "ready": true, "restartCount": 0}]}}))
        .unwrap();
        assert_eq!(ended_last(&pod, "c"), Some("abc"));
        assert_eq!((ended_last(&pod, "d"), ended_last(&pod, "absent")), (None, None));
    }
}
