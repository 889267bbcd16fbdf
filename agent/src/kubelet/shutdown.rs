//! Graceful node shutdown: when the machine goes down, pods end with their grace periods, ordinary ones first, then
//! those that the cluster cannot do without; meanwhile the node is not ready and takes no new pods.
//!
//! Where logind can be asked, it tells when the machine goes down and waits for the pods; an agent that is merely told to end
//! leaves them running. Elsewhere the two are the same: the machine is taken to go down with the agent.

mod logind;

pub(crate) use logind::Places;

use crate::kubelet::pod;
use crate::kubelet::pod_worker::Command;
use crate::kubelet::pods::Workers;
use crate::kubelet::pressure::is_critical;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use logind::Logind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// `status.reason` of pods that end with the node.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// Between two looks at which pods have ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last statuses may take to reach the cluster.
const REPORTING: Duration = Duration::from_secs(5);
/// Until logind is asked again after it failed to answer.
const RETRY: Duration = Duration::from_secs(10);

/// How much time pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grace {
    /// All pods together; none where zero.
    pub total: Duration,
    /// The part of it that is kept for critical pods.
    pub critical: Duration,
}

impl Grace {
    fn of(self, critical: bool) -> Duration {
        let kept = self.critical.min(self.total);
        if critical { kept } else { self.total - kept }
    }
}

/// How this node's pods end with it.
pub struct Ending {
    workers: Workers,
    client: Option<Client>,
    grace: Grace,
    /// The node says so.
    going_down: watch::Sender<bool>,
    /// The machine does not go down unless logind says so.
    would_be_told: AtomicBool,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ending").field("grace", &self.grace).finish_non_exhaustive()
    }
}

impl Ending {
    pub(crate) fn new(workers: Workers, client: Option<Client>, grace: Grace) -> Arc<Self> {
        let going_down = watch::Sender::new(false);
        Arc::new(Self { workers, client, grace, going_down, would_be_told: AtomicBool::new(false) })
    }

    /// Whether the node is on its way down.
    pub(crate) fn going_down(&self) -> watch::Receiver<bool> {
        self.going_down.subscribe()
    }

    /// The agent was told to end: so do its pods, if that means that the machine does.
    pub(crate) async fn with_agent(&self) -> Result<(), String> {
        if self.grace.total.is_zero() || self.would_be_told() {
            return Ok(());
        }
        self.with_machine().await
    }

    fn would_be_told(&self) -> bool {
        self.would_be_told.load(Ordering::Relaxed)
    }

    async fn with_machine(&self) -> Result<(), String> {
        self.going_down.send_replace(true);
        terminate(&self.workers, self.client.as_ref(), self.grace).await
    }

    /// Holds the machine back until its pods have ended, where it has a logind; does not end by itself there.
    pub(crate) async fn guard(self: Arc<Self>, places: Places) {
        if self.grace.total.is_zero() {
            return;
        }
        let mut told = String::new();
        while let Err(error) = self.follow(&places).await {
            self.would_be_told.store(false, Ordering::Relaxed);
            let error = format!("{error:#}");
            if told != error {
                tracing::warn!("logind does not tell when the machine goes down: {error}");
                told = error;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Ends where there is no bus.
    async fn follow(&self, places: &Places) -> anyhow::Result<()> {
        let Some(mut logind) = Logind::connect(places).await? else { return Ok(()) };
        if let Err(error) = logind.wait_for_us(&places.settings, self.grace.total).await {
            tracing::warn!("pods may not have their time when the machine goes down: {error:#}");
        }
        loop {
            let lock = logind.hold().await?;
            self.would_be_told.store(true, Ordering::Relaxed);
            while !logind.goes_down().await? {}
            tracing::info!("the machine goes down: pods end");
            if let Err(left) = self.with_machine().await {
                tracing::warn!("the machine goes down: {left}");
            }
            self.would_be_told.store(false, Ordering::Relaxed);
            drop(lock);
            while logind.goes_down().await? {}
            tracing::info!("the machine does not go down after all");
            self.going_down.send_replace(false);
        }
    }
}

/// Ends every pod within the time. The error names those that did not end.
async fn terminate(workers: &Workers, client: Option<&Client>, grace: Grace) -> Result<(), String> {
    let mut left = Vec::new();
    for critical in [false, true] {
        let chosen = || running(workers).into_iter().filter(|pod| is_critical(pod) == critical);
        for pod in chosen() {
            workers.send(pod::uid(&pod), failure(grace.of(critical)));
        }
        let ended = wait_until(|| chosen().next().is_none());
        if tokio::time::timeout(grace.of(critical) + LOOK, ended).await.is_err() {
            left.extend(chosen().map(|pod| pod::described(&pod)));
        }
    }
    if let Some(client) = client {
        // A cluster that is away learns it when the node is back.
        let _ = tokio::time::timeout(REPORTING, reported(client, workers.pods())).await;
    }
    if left.is_empty() { Ok(()) } else { Err(format!("still running: {}", left.join(", "))) }
}

fn failure(grace: Duration) -> Command {
    Command::Fail { reason: REASON.to_string(), message: MESSAGE.to_string(), grace: Some(grace) }
}

fn running(workers: &Workers) -> Vec<Arc<Pod>> {
    workers.pods().into_iter().filter(|pod| !pod::is_finished(pod)).collect()
}

/// Returns when the cluster shows every pod of it as ended.
async fn reported(client: &Client, pods: Vec<Arc<Pod>>) {
    let mut ticks = tokio::time::interval(LOOK);
    for pod in pods.iter().filter(|pod| pod.metadata.resource_version.is_some()) {
        let api: Api<Pod> = Api::namespaced(client.clone(), pod::namespace(pod));
        while let Ok(Some(shown)) = api.get_opt(pod::name(pod)).await {
            if pod::uid(&shown) != pod::uid(pod) || pod::is_finished(&shown) {
                break;
            }
            ticks.tick().await;
        }
    }
}

async fn wait_until(done: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(LOOK);
    while !done() {
        ticks.tick().await;
    }
}

#[cfg(test)]
mod real_logind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_pods_have_their_own_part_of_the_time() {
        let seconds = Duration::from_secs;
        let grace = Grace { total: seconds(30), critical: seconds(10) };
        assert_eq!((grace.of(false), grace.of(true)), (seconds(20), seconds(10)));
        let odd = Grace { total: seconds(5), critical: seconds(10) };
        assert_eq!((odd.of(false), odd.of(true)), (seconds(0), seconds(5)));
    }
}
