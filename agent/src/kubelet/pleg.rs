//! Notices that something has changed in the runtime and wakes the pod it belongs to: the whole list is compared
//! every second (the only thing that is certain to see everything), and the runtime's own events, where it offers
//! them, make it immediate.

use crate::kubelet::host::within;
use crate::kubelet::labels;
use knarr_cri::RuntimeService;
use knarr_cri::v1::{GetEventsRequest, ListContainersRequest, ListPodSandboxRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

/// Between two looks at the whole list.
const RELIST: Duration = Duration::from_secs(1);
/// A list that takes longer is given up and asked for again.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// Without a list for this long the node is not healthy, in seconds.
const UNHEALTHY_AFTER: i64 = 180;

/// A pod that the runtime has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownPod {
    #[allow(missing_docs)]
    pub name: String,
    #[allow(missing_docs)]
    pub namespace: String,
    /// Id and state of each sandbox and container.
    states: BTreeSet<(String, i32)>,
}

/// What the runtime has, by pod uid, as of the last look.
#[derive(Debug, Default)]
pub struct Pleg {
    /// Held only to copy or replace.
    known: Mutex<BTreeMap<String, KnownPod>>,
    /// Seconds since 1970.
    last_list: AtomicI64,
}

impl Pleg {
    /// Watches `runtime` until `shutdown`; uids of pods that have changed go to `changed`.
    pub fn start(
        runtime: Arc<dyn RuntimeService>,
        changed: mpsc::UnboundedSender<String>,
        shutdown: CancellationToken,
    ) -> Arc<Pleg> {
        let pleg = Arc::new(Pleg::default());
        pleg.last_list.store(now(), Ordering::Relaxed);
        let events = follow_events(runtime.clone(), changed.clone());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(events));
        let relist = pleg.clone().relist_forever(runtime, changed);
        tokio::spawn(shutdown.run_until_cancelled_owned(relist));
        pleg
    }

    /// The pods of the runtime.
    pub fn known(&self) -> BTreeMap<String, KnownPod> {
        self.known.lock().map(|known| known.clone()).unwrap_or_default()
    }

    /// Why the node cannot be trusted to notice exits, if so.
    pub fn unhealthy(&self) -> Option<String> {
        let age = now() - self.last_list.load(Ordering::Relaxed);
        let text = || format!("PLEG is not healthy: pleg was last seen active {age}s ago; threshold is 3m0s");
        (age > UNHEALTHY_AFTER).then(text)
    }

    async fn relist_forever(
        self: Arc<Self>,
        runtime: Arc<dyn RuntimeService>,
        changed: mpsc::UnboundedSender<String>,
    ) {
        let mut ticks = tokio::time::interval(RELIST);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match list(&*runtime).await {
                Ok(fresh) => {
                    self.last_list.store(now(), Ordering::Relaxed);
                    for uid in self.replace(fresh) {
                        // The receiver is gone only when the agent stops.
                        let _ = changed.send(uid);
                    }
                }
                Err(status) => tracing::warn!("list of pods: {}", status.message()),
            }
        }
    }

    /// Keeps `fresh` and answers whose states differ.
    fn replace(&self, fresh: BTreeMap<String, KnownPod>) -> Vec<String> {
        let Ok(mut known) = self.known.lock() else { return Vec::new() };
        let uids: BTreeSet<&String> = known.keys().chain(fresh.keys()).collect();
        let changed = uids.into_iter().filter(|uid| known.get(*uid) != fresh.get(*uid)).cloned().collect();
        *known = fresh;
        changed
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// One look at everything that carries a pod's uid.
pub async fn list(runtime: &dyn RuntimeService) -> Result<BTreeMap<String, KnownPod>, knarr_cri::Status> {
    let sandboxes = within(LIST_DEADLINE, runtime.list_pod_sandbox(ListPodSandboxRequest::default())).await?;
    let containers = within(LIST_DEADLINE, runtime.list_containers(ListContainersRequest::default())).await?;
    let mut pods: BTreeMap<String, KnownPod> = BTreeMap::new();
    let sandboxes = sandboxes.items.into_iter().map(|sandbox| (sandbox.labels, sandbox.id, sandbox.state));
    let containers = containers.containers.into_iter().map(|c| (c.labels, c.id, 100 + c.state));
    for (labels, id, state) in sandboxes.chain(containers) {
        let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let Some(uid) = labels.get(labels::POD_UID) else { continue };
        let pod = pods.entry(uid.clone()).or_insert_with(|| KnownPod {
            name: text(labels::POD_NAME),
            namespace: text(labels::POD_NAMESPACE),
            states: BTreeSet::new(),
        });
        pod.states.insert((id, state));
    }
    Ok(pods)
}

/// Follows the runtime's events as long as it has any to offer.
async fn follow_events(runtime: Arc<dyn RuntimeService>, changed: mpsc::UnboundedSender<String>) {
    while let Ok(mut events) = runtime.get_container_events(GetEventsRequest {}).await {
        while let Some(Ok(event)) = events.next().await {
            let labels = event.pod_sandbox_status.map(|status| status.labels).unwrap_or_default();
            if let Some(uid) = labels.get(labels::POD_UID) {
                // The receiver is gone only when the agent stops.
                let _ = changed.send(uid.clone());
            }
        }
        tokio::time::sleep(RELIST).await;
    }
}
