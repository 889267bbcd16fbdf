//! Gives a pod the resources that its object asks for, if the node has them beside its other pods; else the pod goes on
//! with what it has, and asks again whenever another pod ends.

use super::Worker;
use crate::kubelet::events::Severity;
use crate::kubelet::plan;
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

impl Worker {
    /// Decides about the latest object. Two pods that grow at once are decided about one after the other.
    pub(super) fn grant(&mut self) {
        let workers = self.host.workers.clone();
        let _room = workers.room();
        let others = workers.others(pod::uid(&self.requested));
        let others: Vec<&Pod> = others.iter().map(Arc::as_ref).collect();
        let fixed = self.host.cpus.are_given().then(|| plan::keeps_processors(&self.requested, &self.pod));
        let room = || plan::resize_pending(&self.requested, &self.pod, &others, &self.host.allocatable);
        let pending = fixed.flatten().or_else(room);
        self.pod = match &pending {
            None => self.requested.clone(),
            Some(_) => Arc::new(plan::with_resources_of(&self.requested, &self.pod)),
        };
        // From here on others count what was granted.
        self.show.send_modify(|shown| {
            let status = shown.status.clone();
            let mut now = Arc::unwrap_or_clone(self.pod.clone());
            now.status = status;
            *shown = Arc::new(now);
        });
        let news = pending.as_ref().filter(|_| pending != self.memory.resize_pending);
        if let Some(pending) = news {
            let event = if pending.reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
            self.host.recorder.pod(&self.pod, Severity::Warning, event, pending.message.clone());
        }
        self.memory.resize_pending = pending;
    }
}
