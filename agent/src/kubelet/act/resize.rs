//! Gives a running container other limits. A pod's cgroup must hold its containers at every moment, so it grows before
//! them and shrinks after them.

use super::{Batch, Report};
use crate::kubelet::container_config::linux_resources;
use crate::kubelet::events::Severity;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::{plan, pod};
use knarr_cri::v1::UpdateContainerResourcesRequest;

impl Batch {
    pub(super) async fn resize(&self, id: &str, name: &str) -> Result<(), String> {
        let Some((_, container)) = pod::find_container(&self.pod, name) else { return Ok(()) };
        let wanted = plan::wanted(&container);
        let event = |severity, reason, text: String| {
            self.host.recorder.container(&self.pod, name, severity, reason, text);
        };
        let linux = linux_resources(&self.pod, &container, self.host.node_memory, self.host.memory_qos);
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_string(),
            linux: Some(linux),
            ..Default::default()
        };
        self.grow_pod().await?;
        let updated = within(CALL_DEADLINE, self.host.runtime.update_container_resources(request)).await;
        if let Err(status) = updated {
            let text = format!("Error resizing container {name}: {}", status.message());
            self.report(Report::ResizeRefused { id: id.to_string(), wanted, message: text.clone() });
            event(Severity::Warning, "ResizeError", text.clone());
            return Err(text);
        }
        event(Severity::Normal, "ResizeCompleted", format!("Container {name} was resized in place"));
        self.resize_pod().await
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
