//! The end of a pod on this node: its volumes and cgroup are let go when nothing runs any more; its logs,
//! directories and API object when nothing may remain.

use super::Worker;
use crate::kubelet::events::Severity;
use crate::kubelet::{log_files, pod, pod_cgroup, volumes};
use tokio::sync::watch;

impl Worker {
    /// Lets go of what only running containers need; false when a storage driver must be asked again. What else fails is
    /// tried again by the next start of the agent, which finds the left-overs.
    pub(super) async fn release(&mut self) -> bool {
        if self.released || !self.host.is_real() {
            return true;
        }
        self.refresh.end(&self.host, pod::uid(&self.pod)).await;
        let host = self.host.clone();
        if let Err(error) = volumes::give_back(&host, pod::uid(&self.pod)).await {
            // A volume that another node may get must not be here any more when the pod is gone.
            self.host.recorder.pod(&self.pod, Severity::Warning, "FailedUnMount", error);
            return false;
        }
        self.released = true;
        let (host, pod) = (self.host.clone(), self.pod.clone());
        let released = tokio::task::spawn_blocking(move || {
            host.devices.release(pod::uid(&pod));
            host.cpus.release(pod::uid(&pod));
            let cgroup = pod_cgroup::path(&host.cgroup_root, &pod);
            let hierarchies = host.hierarchies.as_deref().unwrap_or_default();
            [volumes::tear_down(&host.paths.pod(pod::uid(&pod))), pod_cgroup::remove(hierarchies, &cgroup)]
        });
        let released = released.await;
        if released.as_ref().is_ok_and(|[directory, _]| directory.is_ok()) {
            self.host.user_namespaces.release(pod::uid(&self.pod));
        }
        for error in released.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(pod = pod::described(&self.pod), "clean-up: {error}");
        }
        true
    }

    /// Removes the logs, then the API object; the object goes last, because it is what reminds us of the rest.
    pub(super) async fn forget(&mut self) {
        self.host.probe_counts.forget(pod::uid(&self.pod));
        if self.host.is_real() {
            let logs = self.host.paths.logs(&self.pod);
            let links = self.host.paths.log_links(&self.pod);
            let removed = tokio::task::spawn_blocking(move || log_files::remove(&logs, &links)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(pod = pod::described(&self.pod), "logs: {error}");
            }
        }
        let idle = crate::kubelet::status_writer::StatusWriter::start(None, None);
        let writer = std::mem::replace(&mut self.writer, idle);
        // Whoever sees the object gone may count on the room: it is free before that.
        self.show = watch::channel(self.pod.clone()).0;
        if self.target.is_some() && pod::is_deleted(&self.pod) {
            writer.delete().await;
        }
    }
}
