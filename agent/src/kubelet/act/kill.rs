//! Stops containers: preStop hook, SIGTERM, and SIGKILL when the grace period is over. The hook runs inside the
//! grace period, and at least two seconds are always left for the process itself. The hooks of a pod that ends run all at
//! once; the signals come in turn.

use super::Batch;
use super::turns::Turns;
use crate::kubelet::events::Severity;
use crate::kubelet::hooks;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::observed::{ObservedContainer, RunState};
use crate::kubelet::pod;
use futures_util::future::join_all;
use knarr_cri::v1::{StopContainerRequest, StopPodSandboxRequest};
use std::time::{Duration, Instant};

/// What a process gets between SIGTERM and SIGKILL even when the hook used the whole grace period, or there is none.
const LEAST_GRACE: Duration = Duration::from_secs(2);

impl Batch {
    /// Stops every container of the pod, then its sandboxes. Goes on after errors and returns them all.
    pub(super) async fn stop_pod(&self, grace: Duration) -> Result<(), String> {
        let living: Vec<&ObservedContainer> = self.observed.living().collect();
        let turns = Turns::new(&self.pod, living.iter().map(|container| container.name.as_str()));
        let stops = living.iter().map(|container| self.stop_container(container, grace, &turns));
        let mut results = join_all(stops).await;
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

    async fn stop_container(
        &self,
        container: &ObservedContainer,
        grace: Duration,
        turns: &Turns,
    ) -> Result<(), String> {
        let message = format!("Stopping container {}", container.name);
        let stopped = match container.state {
            RunState::Running => {
                self.kill_in_turn(&container.id, &container.name, &message, grace, turns).await
            }
            _ => self.signal(&container.id, Duration::ZERO).await,
        };
        turns.tell_end(&container.name);
        stopped
    }

    /// Stops one running container of a pod that goes on.
    pub(super) async fn kill(
        &self,
        id: &str,
        name: &str,
        message: &str,
        grace: Duration,
    ) -> Result<(), String> {
        self.kill_in_turn(id, name, message, grace, &Turns::default()).await
    }

    async fn kill_in_turn(
        &self,
        id: &str,
        name: &str,
        message: &str,
        grace: Duration,
        turns: &Turns,
    ) -> Result<(), String> {
        self.host.recorder.container(&self.pod, name, Severity::Normal, "Killing", message);
        let begun = Instant::now();
        self.pre_stop(id, name, grace).await;
        turns.await_turn(name, grace.saturating_sub(begun.elapsed())).await;
        self.signal(id, grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE)).await
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
