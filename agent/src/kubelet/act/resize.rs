//! Gives a running container other limits. A pod's cgroup must hold its containers at every moment, so it grows before
//! them and shrinks after them. Memory that is in use is not taken away: the kernel would kill for it.

use super::{Batch, Report};
use crate::kubelet::container_config::linux_resources;
use crate::kubelet::events::Severity;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::observed::Granted;
use crate::kubelet::pod::Kind;
use crate::kubelet::{plan, pod, sandbox_config};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use knarr_cri::v1::{
    ContainerStatsRequest, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use serde::Serialize;

impl Batch {
    pub(super) async fn resize(&self, id: &str, name: &str) -> Result<(), String> {
        let wanted = match pod::find_container(&self.pod, name) {
            Some((_, container)) => plan::wanted(&self.pod, &container),
            None => return Ok(()),
        };
        let resized = self.try_resize(id, name, wanted).await;
        if let Err(message) = &resized {
            let message = message.clone();
            self.report(Report::ResizeRefused { id: id.to_string(), wanted, message });
        }
        resized
    }

    async fn try_resize(&self, id: &str, name: &str, wanted: Granted) -> Result<(), String> {
        let Some((_, container)) = pod::find_container(&self.pod, name) else { return Ok(()) };
        let linux = linux_resources(&self.pod, &container, self.host.node_memory, self.host.memory_qos);
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_string(),
            linux: Some(linux),
            ..Default::default()
        };
        self.check_memory(id, name, wanted).await?;
        self.grow_pod().await?;
        let updated = within(CALL_DEADLINE, self.host.runtime.update_container_resources(request)).await;
        updated.map_err(|status| format!("Error resizing container {name}: {}", status.message()))?;
        self.resize_pod().await?;
        self.tell_runtime().await;
        Ok(())
    }

    /// A pod that is a machine of its own must grow with its containers; most runtimes need not be told.
    async fn tell_runtime(&self) {
        let Some(sandbox) = self.observed.ready_sandbox() else { return };
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: sandbox.id.clone(),
            overhead: Some(sandbox_config::pod_overhead(&self.pod)),
            resources: Some(sandbox_config::pod_resources(&self.pod)),
        };
        let told = within(CALL_DEADLINE, self.host.runtime.update_pod_sandbox_resources(request)).await;
        if let Err(status) = told {
            tracing::debug!(
                pod = pod::described(&self.pod),
                "UpdatePodSandboxResources: {}",
                status.message()
            );
        }
    }

    /// A limit that becomes smaller must leave the container what it uses.
    async fn check_memory(&self, id: &str, name: &str, wanted: Granted) -> Result<(), String> {
        let running = self.observed.containers.iter().find(|container| container.id == id);
        let Some(granted) = running.and_then(|running| running.granted) else { return Ok(()) };
        if !plan::takes_memory(granted, wanted) {
            return Ok(());
        }
        let request = ContainerStatsRequest { container_id: id.to_string() };
        let stats = within(CALL_DEADLINE, self.host.runtime.container_stats(request)).await;
        let usage = stats.ok().and_then(|answer| answer.stats?.memory?.usage_bytes).map(|usage| usage.value);
        plan::leaves_memory(name, wanted, usage)
    }

    /// Tells that a pod has got what it asks for.
    pub(super) fn tell_resized(&self) {
        self.host.recorder.pod(&self.pod, Severity::Normal, "ResizeCompleted", resized(&self.pod));
    }

    /// Before a container gets more, or starts with other limits than the one before it.
    pub(super) async fn grow_pod(&self) -> Result<(), String> {
        let (host, pod) = (self.host.clone(), self.pod.clone());
        let grown = tokio::task::spawn_blocking(move || host.grow_pod_cgroup(&pod)).await;
        grown.map_err(|error| error.to_string())?.map_err(|error| format!("pod cgroup: {error}"))
    }

    /// Writes the pod's own limits anew. While another container has more than that, the kernel may refuse it; that one's
    /// turn comes.
    pub(super) async fn resize_pod(&self) -> Result<(), String> {
        let (host, pod) = (self.host.clone(), self.pod.clone());
        let write = move || host.make_pod_cgroup(&pod);
        let written = tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("pod cgroup: {error}"))
    }
}

/// What each container has now.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Share>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    name: String,
    resources: ResourceRequirements,
}

/// The event's text.
fn resized(pod: &Pod) -> String {
    let of_kind = |main: bool| {
        let all = pod::containers(pod).filter(|(kind, _)| (*kind == Kind::Main) == main);
        let share = |container: &k8s_openapi::api::core::v1::Container| Share {
            name: container.name.clone(),
            resources: container.resources.clone().unwrap_or_default(),
        };
        all.map(|(_, container)| share(container)).collect()
    };
    let summary = Summary { init_containers: of_kind(false), containers: of_kind(true) };
    match serde_json::to_string(&summary) {
        Ok(text) => format!("Pod resize completed: {text}"),
        Err(_) => "Pod resize completed".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_event_tells_what_each_container_has() {
        let pod = |spec: serde_json::Value| serde_json::from_value(json!({"spec": spec})).unwrap();
        let amounts = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Mi", "cpu": "2"}});
        let both = pod(
            json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c", "resources": amounts}]}),
        );
        assert_eq!(
            resized(&both),
            "Pod resize completed: {\"initContainers\":[{\"name\":\"i\",\"resources\":{}}],\"containers\":\
             [{\"name\":\"c\",\"resources\":{\"limits\":{\"cpu\":\"2\",\"memory\":\"1Mi\"},\"requests\":{\"cpu\":\"1\"}}}]}"
        );
        let one = pod(json!({"containers": [{"name": "c"}]}));
        assert_eq!(
            resized(&one),
            "Pod resize completed: {\"containers\":[{\"name\":\"c\",\"resources\":{}}]}"
        );
    }
}
