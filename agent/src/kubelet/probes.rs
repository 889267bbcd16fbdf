//! Startup, readiness and liveness probes: one task per probe of a running container, which sleeps between its
//! attempts and wakes its pod's worker only when the verdict changes. Tasks of different pods share nothing, so a
//! probe is never late because of another pod.

mod attempt;
mod counts;
mod grpc;
mod verdict;

use attempt::{Passed, Refused};
pub use counts::ProbeCounts;

use crate::kubelet::events::Severity;
use crate::kubelet::host::Host;
use crate::kubelet::observed::{ObservedContainer, ObservedPod, RunState};
use crate::kubelet::plan::{Health, Memory, Unhealthy};
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use verdict::{Counter, Verdict};

/// How often one is asked that could not be.
const TRIES: usize = 3;

/// After so long a kubelet that looks once a second has seen that a container runs, and probes it.
const SEEN: Duration = Duration::from_secs(1);

/// Between the first two of the attempts before that; then twice as long each time.
const EARLY: Duration = Duration::from_millis(100);

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Startup,
    Readiness,
    Liveness,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Startup => "Startup",
            Role::Readiness => "Readiness",
            Role::Liveness => "Liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Role::Startup => container.startup_probe.as_ref(),
            Role::Readiness => container.readiness_probe.as_ref(),
            Role::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Verdicts by container id and role; held only for a look-up.
type Verdicts = Arc<Mutex<BTreeMap<(String, Role), Verdict>>>;

/// The probes of one pod.
pub struct Probes {
    host: Arc<Host>,
    wake: Arc<Notify>,
    verdicts: Verdicts,
    tasks: BTreeMap<(String, Role), AbortOnDropHandle<()>>,
    /// The pod ends: nothing is restarted any more, so only readiness is asked for.
    ending: bool,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

impl Probes {
    /// None yet; changes of a verdict are told to `wake`.
    pub fn new(host: Arc<Host>, wake: Arc<Notify>) -> Probes {
        Probes { host, wake, verdicts: Verdicts::default(), tasks: BTreeMap::new(), ending: false }
    }

    /// Starts probes of containers that run, ends those of containers that do not, and brings `memory` up to date.
    pub fn follow(&mut self, pod: &Arc<Pod>, observed: &ObservedPod, memory: &mut Memory, ending: bool) {
        self.ending = ending;
        let running: Vec<&ObservedContainer> =
            observed.containers.iter().filter(|container| container.state == RunState::Running).collect();
        let runs = |id: &String| running.iter().any(|container| container.id == *id);
        self.tasks.retain(|(id, role), _| runs(id) && (!ending || *role == Role::Readiness));
        memory.health.retain(|id, _| runs(id));
        if let Ok(mut verdicts) = self.verdicts.lock() {
            verdicts.retain(|(id, _), _| runs(id));
        }
        let ip = self.host.facts(pod, observed.ready_sandbox()).pod_ips.first().cloned().unwrap_or_default();
        for observed in running {
            if let Some((_, container)) = pod::find_container(pod, &observed.name) {
                self.judge(pod, &container, observed, &ip, memory);
            }
        }
    }

    fn judge(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        observed: &ObservedContainer,
        ip: &str,
        memory: &mut Memory,
    ) {
        let first = Health {
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            unhealthy: None,
        };
        let health = memory.health.entry(observed.id.clone()).or_insert(first);
        let mut run = |role, probe: &Option<Probe>| {
            let probe = probe.as_ref()?;
            self.ensure(pod, container, observed, ip, role, probe);
            let verdicts = self.verdicts.lock().ok()?;
            verdicts.get(&(observed.id.clone(), role)).copied()
        };
        let gives_up = |probe: &'static str, spec: &Option<Probe>| {
            let seconds = spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
            let grace = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
            Some(Unhealthy { probe, grace })
        };
        match run(Role::Startup, &container.startup_probe) {
            Some(Verdict::Success) => health.started = true,
            Some(Verdict::Failure) => health.unhealthy = gives_up("startup", &container.startup_probe),
            None => {}
        }
        if !health.started {
            // The startup probe gates both others.
            return;
        }
        match run(Role::Readiness, &container.readiness_probe) {
            Some(verdict) => health.ready = verdict == Verdict::Success,
            None => health.ready |= container.readiness_probe.is_none(),
        }
        if run(Role::Liveness, &container.liveness_probe) == Some(Verdict::Failure) {
            health.unhealthy = gives_up("liveness", &container.liveness_probe);
        }
    }

    fn ensure(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        observed: &ObservedContainer,
        ip: &str,
        role: Role,
        probe: &Probe,
    ) {
        let key = (observed.id.clone(), role);
        if self.tasks.contains_key(&key) || (self.ending && role != Role::Readiness) {
            return;
        }
        let task = Task {
            host: self.host.clone(),
            pod: pod.clone(),
            container: container.name.clone(),
            pace: Pace::of(probe),
            ip: ip.to_string(),
            since: observed.started_at.unwrap_or(observed.created_at),
            key: key.clone(),
            verdicts: self.verdicts.clone(),
            wake: self.wake.clone(),
        };
        self.tasks.insert(key, AbortOnDropHandle::new(tokio::spawn(task.run())));
    }
}

/// How often a probe is made, and how much it takes to change its verdict.
#[derive(Clone, Copy)]
struct Pace {
    delay: Duration,
    period: Duration,
    successes: Option<i32>,
    failures: Option<i32>,
}

impl Pace {
    fn of(probe: &Probe) -> Pace {
        Pace {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            successes: probe.success_threshold,
            failures: probe.failure_threshold,
        }
    }
}

/// One probe of one container.
struct Task {
    host: Arc<Host>,
    pod: Arc<Pod>,
    /// Its name: probes are many and live long, so they hold no copies of what the pod says.
    container: String,
    pace: Pace,
    ip: String,
    since: jiff::Timestamp,
    key: (String, Role),
    verdicts: Verdicts,
    wake: Arc<Notify>,
}

fn seconds(field: Option<i32>, default: u64) -> Duration {
    let given = field.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    Duration::from_secs(given.unwrap_or(default))
}

impl Task {
    async fn run(self) {
        let role = self.key.1;
        tokio::time::sleep(self.pace.delay.saturating_sub(self.age())).await;
        let mut early = self.age() < SEEN && self.answers_early().await;
        let mut ticks = tokio::time::interval(self.pace.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counter = Counter::new(self.pace.successes, self.pace.failures);
        loop {
            ticks.tick().await;
            let outcome = if std::mem::take(&mut early) { Ok(None) } else { self.outcome().await };
            self.tell_of(&outcome);
            if matches!(outcome, Err(Refused::Errored(_))) {
                // Nobody knows how the container is.
                continue;
            }
            self.host.probe_counts.count(&self.pod, &self.container, role, outcome.is_ok());
            let Some(verdict) = counter.count(outcome.is_ok()) else { continue };
            self.tell(verdict);
            let over = match role {
                Role::Startup => true,
                Role::Liveness => verdict == Verdict::Failure,
                Role::Readiness => false,
            };
            if over {
                // A success of the startup probe is for good; after giving up, the container is replaced.
                return;
            }
        }
    }

    /// How long its container has run.
    fn age(&self) -> Duration {
        Duration::try_from(jiff::Timestamp::now().duration_since(self.since)).unwrap_or_default()
    }

    /// Whether the program answers within its first second, asked again and again so that nobody waits for a whole period
    /// because a server took a moment to listen. That it does not yet is no failure: another kubelet would not have
    /// looked. A success of the liveness probe changes nothing, and a command is not run for nothing.
    async fn answers_early(&self) -> bool {
        let mut pause = EARLY;
        let asks = self.key.1 != Role::Liveness;
        while asks && self.age() < SEEN {
            if Box::pin(self.attempt()).await.is_ok() {
                return true;
            }
            if self.is_command() {
                break;
            }
            tokio::time::sleep(pause.min(SEEN.saturating_sub(self.age()))).await;
            pause *= 2;
        }
        tokio::time::sleep(SEEN.saturating_sub(self.age())).await;
        false
    }

    fn is_command(&self) -> bool {
        let found = pod::find_container(&self.pod, &self.container);
        let probe = found.as_ref().and_then(|(_, container)| self.key.1.of(container));
        probe.is_some_and(|probe| probe.exec.is_some())
    }

    /// A failure, and a success that is doubtful, are events.
    fn tell_of(&self, outcome: &Result<Passed, Refused>) {
        let probe = self.key.1.name();
        let (reason, text) = match outcome {
            Ok(None) => return,
            Ok(Some(warning)) => ("ProbeWarning", format!("{probe} probe warning: {warning}")),
            Err(refused) => ("Unhealthy", refused.told(probe)),
        };
        self.host.recorder.container(&self.pod, &self.container, Severity::Warning, reason, text);
    }

    async fn outcome(&self) -> Result<Passed, Refused> {
        // Its memory is needed while it lasts, and not by all probes all the time.
        let mut outcome = Box::pin(self.attempt()).await;
        for _ in 1..TRIES {
            if !matches!(outcome, Err(Refused::Errored(_))) {
                break;
            }
            outcome = Box::pin(self.attempt()).await;
        }
        outcome
    }

    async fn attempt(&self) -> Result<Passed, Refused> {
        let found = pod::find_container(&self.pod, &self.container);
        let probe = found.as_ref().and_then(|(_, container)| self.key.1.of(container));
        match (&found, probe) {
            (Some((_, container)), Some(probe)) => {
                attempt::attempt(&self.host, container, probe, &self.key.0, &self.ip).await
            }
            // It was started for one that has it, and its pod stays as it was.
            _ => Ok(None),
        }
    }

    fn tell(&self, verdict: Verdict) {
        let changed = self
            .verdicts
            .lock()
            .is_ok_and(|mut verdicts| verdicts.insert(self.key.clone(), verdict) != Some(verdict));
        if changed {
            self.wake.notify_one();
        }
    }
}
