//! Stops containers: preStop hook, SIGTERM, and SIGKILL when the grace period is over. The hook runs inside the
//! grace period, and at least two seconds are always left for the process itself.

use super::Batch;
use crate::kubelet::events::Severity;
use crate::kubelet::hooks;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::observed::{ObservedContainer, RunState};
use crate::kubelet::pod::{self, Kind};
use futures_util::future::join_all;
use knarr_cri::v1::{StopContainerRequest, StopPodSandboxRequest};
use std::time::{Duration, Instant};

/// What a process gets between SIGTERM and SIGKILL even when the hook used the whole grace period.
const LEAST_GRACE: Duration = Duration::from_secs(2);

impl Batch {
    /// Stops every container of the pod, then its sandboxes. Goes on after errors and returns them all.
    pub(super) async fn stop_pod(&self, grace: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let sidecars: Vec<&str> = pod::init_containers(&self.pod)
            .filter(|(kind, _)| *kind == Kind::Sidecar)
            .map(|(_, container)| container.name.as_str())
            .collect();
        let living: Vec<&ObservedContainer> = self.observed.living().collect();
        let first = living.iter().filter(|container| !sidecars.contains(&container.name.as_str()));
        let mut results = join_all(first.map(|container| self.stop_container(container, grace))).await;
        for name in sidecars.iter().rev() {
            let left = grace.saturating_sub(begun.elapsed());
            for container in living.iter().filter(|container| container.name == *name) {
                results.push(self.stop_container(container, left).await);
            }
        }
        for sandbox in &self.observed.sandboxes {
            let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            let stopped = within(CALL_DEADLINE, self.host.runtime.stop_pod_sandbox(request)).await;
            results.push(
                stopped.map(drop).map_err(|s| format!("StopPodSandbox {}: {}", sandbox.id, s.message())),
            );
        }
        let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    async fn stop_container(&self, container: &ObservedContainer, grace: Duration) -> Result<(), String> {
        let message = format!("Stopping container {}", container.name);
        if container.state == RunState::Running {
            return self.kill(&container.id, &container.name, &message, grace).await;
        }
        self.signal(&container.id, Duration::ZERO).await
    }

    /// Stops one running container.
    pub(super) async fn kill(
        &self,
        id: &str,
        name: &str,
        message: &str,
        grace: Duration,
    ) -> Result<(), String> {
        self.host.recorder.container(&self.pod, name, Severity::Normal, "Killing", message);
        let begun = Instant::now();
        if !grace.is_zero() {
            self.pre_stop(id, name, grace).await;
        }
        let left =
            if grace.is_zero() { grace } else { grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE) };
        self.signal(id, left).await
    }

    async fn signal(&self, id: &str, grace: Duration) -> Result<(), String> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.to_string(), timeout };
        let deadline = grace.saturating_add(CALL_DEADLINE);
        let stopped = within(deadline, self.host.runtime.stop_container(request)).await;
        stopped.map(drop).map_err(|status| format!("StopContainer {id}: {}", status.message()))
    }

    async fn pre_stop(&self, id: &str, name: &str, grace: Duration) {
        let Some((_, container)) = pod::find_container(&self.pod, name) else { return };
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone()) else {
            return;
        };
        let facts = self.host.facts(&self.pod, self.observed.ready_sandbox());
        let ip = facts.pod_ips.first().cloned().unwrap_or_default();
        let run = hooks::run(&self.host, &hook, &self.pod, &container, id, &ip);
        let failure = match tokio::time::timeout(grace, run).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => format!("did not complete within the grace period of {} s", grace.as_secs()),
        };
        tracing::warn!(pod = pod::described(&self.pod), container = name, "preStop: {failure}");
        // What a hook says may be secret, and events are read by many.
        let text = "PreStopHook failed";
        self.host.recorder.container(&self.pod, name, Severity::Warning, "FailedPreStopHook", text);
    }
}
