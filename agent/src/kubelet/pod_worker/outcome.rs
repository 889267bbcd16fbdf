//! What a worker learns from its batches and keeps in mind: failures with their back-off, and the events that a
//! person sees when a container starts to wait.

use super::Worker;
use crate::kubelet::act::Report;
use crate::kubelet::backoff::{Backoff, plus};
use crate::kubelet::events::Severity;
use crate::kubelet::plan::{Action, Health, Memory, Plan, Refused, StartFailure};
use crate::kubelet::pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ContainerStatus;
use std::time::Duration;

/// Between attempts to start a container that cannot be created.
const START_RETRY: Duration = Duration::from_secs(10);
/// Between attempts to make a sandbox.
const SANDBOX_RETRY: Duration = Duration::from_secs(10);
/// How long a failure is shown as such before it is shown as a back-off.
const FAILURE_SHOWN: Duration = Duration::from_secs(2);

/// Between attempts to make volumes: half a second, doubled each time, as the kubelet does it.
fn volume_retry(failures: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(122);
    Duration::from_millis(500).saturating_mul(1 << failures.min(10)).min(LONGEST)
}

impl Worker {
    /// What the pod refers to has changed: whatever failed for lack of it is tried again at once.
    pub(super) fn forgive(&mut self) {
        if self.memory.volume_failures > 0 {
            self.memory.volume_failures = 0;
            self.memory.sandbox_retry_at = None;
        }
        self.memory.failures.retain(|_, failure| failure.reason != "CreateContainerConfigError");
    }

    /// What later plans must know of an action that begins.
    pub(super) fn note(&mut self, action: &Action) {
        match action {
            Action::Start { container, after_exit: true, .. } => self.note_restart(container),
            Action::Kill { id, replaced: true, .. } => self.note_replacement(id),
            _ => {}
        }
    }

    /// A start after an exit counts for the back-off of the next one.
    fn note_restart(&mut self, container: &str) {
        let Some((_, spec)) = pod::find_container(&self.pod, container) else { return };
        if self.memory.failures.get(container).is_none_or(|failure| failure.begun) {
            let next = Backoff::after_attempt(self.memory.backoff_of(&spec).copied(), Timestamp::now());
            self.memory.restarts.insert(Memory::made(&spec), next);
        }
    }

    fn note_replacement(&mut self, id: &str) {
        let containers = &self.observed.containers;
        let ended = containers.iter().find(|container| container.id == id);
        let before = ended.and_then(|ended| self.observed.previous(ended)?.finished_at);
        self.memory.replaced.retain(|id, _| containers.iter().any(|container| container.id == *id));
        self.memory.replaced.insert(id.to_owned(), before);
    }

    pub(super) fn remember(&mut self, report: Report) {
        let now = Timestamp::now();
        match report {
            Report::SandboxCreated => {
                self.memory.sandbox_retry_at = None;
                self.memory.volume_failures = 0;
            }
            Report::SandboxFailed { by_volumes: false } => {
                self.memory.sandbox_retry_at = Some(plus(now, SANDBOX_RETRY));
            }
            Report::SandboxFailed { by_volumes: true } => {
                let delay = volume_retry(self.memory.volume_failures);
                self.memory.volume_failures += 1;
                self.memory.sandbox_retry_at = Some(plus(now, delay));
            }
            Report::ResizeRefused { id, wanted, message } => {
                let before = self.memory.refused.get(&id);
                if before.is_none_or(|before| before.wanted != wanted) {
                    self.host.recorder.pod(&self.pod, Severity::Warning, "ResizeError", message.clone());
                }
                let retry_at = plus(now, START_RETRY);
                self.memory.refused.insert(id, Refused { wanted, message, retry_at });
            }
            Report::StartFailed { container, reason, message, pull_of } => {
                self.memory.starting.remove(&container);
                let failure = self.start_failure(now, reason, message, pull_of);
                self.memory.failures.insert(container, failure);
            }
            Report::Started { container, id } => {
                self.memory.starting.remove(&container);
                self.memory.failures.remove(&container);
                if let Some((_, container)) = pod::find_container(&self.pod, &container) {
                    self.memory.health.entry(id).or_insert(Health {
                        started: container.startup_probe.is_none(),
                        ready: container.readiness_probe.is_none(),
                        unhealthy: None,
                    });
                }
            }
        }
    }

    fn start_failure(
        &mut self,
        now: Timestamp,
        reason: String,
        message: String,
        pull_of: Option<String>,
    ) -> StartFailure {
        let Some(image) = pull_of else {
            let begun = ["RunContainerError", "PostStartHookError"].contains(&reason.as_str());
            let retry_at = plus(now, if begun { FAILURE_SHOWN } else { START_RETRY });
            return StartFailure { reason, message, retry_at, then: None, begun };
        };
        let backoff = Backoff::after_attempt(self.memory.pulls.get(&image).copied(), now);
        let then = format!("Back-off pulling image \"{image}\": {reason}: {message}");
        self.memory.pulls.insert(image, backoff);
        let retry_at = plus(now, backoff.delay());
        let then = Some((plus(now, FAILURE_SHOWN), then));
        StartFailure { reason, message, retry_at, then, begun: false }
    }

    /// Events for containers that have begun to wait.
    pub(super) fn tell_waiting(&mut self, plan: &Plan) {
        for (name, waiting) in &plan.waiting {
            if self.waiting.get(name).is_some_and(|before| before.reason == waiting.reason) {
                continue;
            }
            let recorder = &self.host.recorder;
            match waiting.reason.as_str() {
                "CrashLoopBackOff" => {
                    let who = pod::described(&self.pod);
                    let text = format!("Back-off restarting failed container {name} in pod {who}");
                    recorder.container(&self.pod, name, Severity::Warning, "BackOff", text);
                }
                "ImagePullBackOff" => {
                    // `Back-off pulling image "IMAGE": REASON: MESSAGE`; an image may be a volume's.
                    let text = waiting.message.split_inclusive('"').take(2).collect::<String>();
                    let own = pod::find_container(&self.pod, name).and_then(|(_, found)| found.image);
                    if own.is_some_and(|image| text.ends_with(&format!("\"{image}\""))) {
                        recorder.container(&self.pod, name, Severity::Normal, "BackOff", text);
                    } else {
                        recorder.pod(&self.pod, Severity::Normal, "BackOff", text);
                    }
                    let text = "Error: ImagePullBackOff";
                    recorder.container(&self.pod, name, Severity::Warning, "Failed", text);
                }
                _ => {}
            }
        }
        self.waiting.clone_from(&plan.waiting);
    }

    /// What was last reported of its containers holds until their probes say otherwise: a restart of the agent must
    /// not take a pod out of its services.
    pub(super) fn adopt_health(&mut self) {
        let lists = [&self.status.init_container_statuses, &self.status.container_statuses];
        let known = lists.into_iter().flatten().flatten().filter_map(health_of);
        self.memory.health.extend(known);
    }
}

/// The id of a reported container and what is known of it. Of one that had not begun that is nothing: it may have begun
/// since, and without probes nobody would say so.
fn health_of(container: &ContainerStatus) -> Option<(String, Health)> {
    let (_, id) = container.container_id.as_deref()?.split_once("://")?;
    let began = container.started == Some(true);
    began.then(|| (id.to_owned(), Health { started: true, ready: container.ready, unhealthy: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_begun_is_known_to_the_next_agent() {
        let health = |ready| Some(("a".to_owned(), Health { started: true, ready, unhealthy: None }));
        for (id, started, ready, expected) in [
            (Some("knarr://a"), Some(true), true, health(true)),
            (Some("knarr://a"), Some(true), false, health(false)),
            (Some("knarr://a"), Some(false), false, None),
            (Some("knarr://a"), None, true, None),
            (Some("a"), Some(true), true, None),
            (None, Some(true), true, None),
        ] {
            let container_id = id.map(str::to_owned);
            let status = ContainerStatus { container_id, started, ready, ..ContainerStatus::default() };
            assert_eq!(health_of(&status), expected, "{status:?}");
        }
    }
}
