//! Graceful node shutdown: when the machine goes down, pods end with their grace periods, ordinary ones first, then
//! those that the cluster cannot do without; meanwhile the node is not ready and takes no new pods.

use crate::kubelet::pod;
use crate::kubelet::pod_worker::Command;
use crate::kubelet::pods::Workers;
use crate::kubelet::pressure::is_critical;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;

/// `status.reason` of pods that end with the node.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// Between two looks at which pods have ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last statuses may take to reach the cluster.
const REPORTING: Duration = Duration::from_secs(5);

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

/// Ends every pod within the time. The error names those that did not end.
pub async fn terminate(workers: &Workers, client: Option<&Client>, grace: Grace) -> Result<(), String> {
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
