//! The scheduler: gives each new pod the node that fits it best, one at a time, in the order of priority.
//!
//! One task owns everything: it takes a pod from the queue, filters and scores the nodes of its snapshot, assumes the
//! decision in the snapshot, so that the next pod is judged against it, and binds in the background. A pod that fits
//! nowhere waits until something changes that could help it, at most a minute.

mod binding;
mod cycle;
pub(crate) mod daemon;
mod filter;
pub(crate) mod node_selector;
mod queue;
mod requests;
mod score;
mod snapshot;

use crate::controllers::events::Recorder;
use crate::controllers::informer::{Key, Lister};
use crate::controllers::pods;
use crate::controllers::wiring::{Plane, Task};
use cycle::Decision;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Client, ResourceExt};
use queue::Queue;
use snapshot::Snapshot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The name pods ask for.
pub(crate) const NAME: &str = "default-scheduler";

/// Woken by pods and nodes.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let (pods, nodes) = (plane.informer::<Pod>(), plane.informer::<Node>());
    let scheduler = Scheduler::new(plane.client.clone(), pods.lister(), nodes.lister());
    let changed = scheduler.clone();
    pods.on_change(move |old, new| changed.pod_changed(old, new));
    let changed = scheduler.clone();
    nodes.on_change(move |_, _| changed.node_changed());
    Box::pin(scheduler.run())
}

/// The scheduler; cheap to clone.
#[derive(Clone)]
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    queue: Queue,
    /// Pods that are bound, but not yet in our copy: pod to node.
    assumed: Mutex<BTreeMap<Key, (String, Arc<Pod>)>>,
    recorder: Recorder,
}

impl Scheduler {
    /// A scheduler over two copies.
    pub(crate) fn new(client: Client, pods: Lister<Pod>, nodes: Lister<Node>) -> Self {
        let recorder = Recorder::new(client.clone(), NAME);
        let shared = Shared { client, pods, nodes, queue: Queue::new(), assumed: Mutex::default(), recorder };
        Self { shared: Arc::new(shared) }
    }

    /// A pod came, went or changed.
    pub(crate) fn pod_changed(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        let Some(pod) = new.or(old) else { return };
        let key = Key::of(&**pod);
        match new {
            Some(pod) if is_waiting(pod) => self.shared.queue.add(key, priority(pod)),
            _ => self.shared.queue.remove(&key),
        }
        if new.is_none_or(|pod| pods::node_of(pod).is_some()) {
            self.shared.assumed.lock().unwrap_or_else(PoisonError::into_inner).remove(&Key::of(&**pod));
        }
        let bound = |pod: Option<&Arc<Pod>>| {
            pod.is_some_and(|pod| pods::node_of(pod).is_some() && !requests::is_finished(pod))
        };
        if bound(old) && !bound(new) {
            self.shared.queue.wake_all();
        }
    }

    /// A node came, went or changed.
    pub(crate) fn node_changed(&self) {
        self.shared.queue.wake_all();
    }

    /// Schedules until the future is dropped.
    pub(crate) async fn run(self) {
        self.shared.nodes.synced().await;
        self.shared.pods.synced().await;
        loop {
            let key = self.shared.queue.next().await;
            if let Some(pod) = self.shared.pods.get(&key).filter(|pod| is_waiting(pod)) {
                self.schedule(key, pod);
            }
        }
    }

    /// Decides about one pod.
    fn schedule(&self, key: Key, pod: Arc<Pod>) {
        if self.shared.assumed.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key) {
            return;
        }
        let snapshot = self.snapshot();
        match cycle::decide(&pod, &snapshot) {
            Decision::Node(node) => {
                let mut assumed = self.shared.assumed.lock().unwrap_or_else(PoisonError::into_inner);
                assumed.insert(key, (node.clone(), pod.clone()));
                drop(assumed);
                tokio::spawn(self.clone().bind(pod, node));
            }
            Decision::None(message) => {
                self.shared.queue.park(key, priority(&pod));
                tokio::spawn(self.clone().report(pod, message));
            }
        }
    }

    /// The nodes with what is bound or assumed to be on them.
    fn snapshot(&self) -> Snapshot {
        let assumed = self.shared.assumed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot::new(self.shared.nodes.all(), self.shared.pods.all(), assumed.into_values())
    }

    async fn bind(self, pod: Arc<Pod>, node: String) {
        let key = Key::of(&*pod);
        match binding::bind(&self.shared.client, &pod, &node).await {
            Ok(()) => {
                let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
                let normal = crate::controllers::events::Severity::Normal;
                self.shared.recorder.record(&*pod, normal, "Scheduled", message);
            }
            Err(error) => {
                tracing::warn!(namespace = key.namespace, name = key.name, node, %error, "bind");
                self.shared.assumed.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                self.shared.queue.park(key, priority(&pod));
            }
        }
    }

    /// Says why a pod waits: its condition, and an event.
    async fn report(self, pod: Arc<Pod>, message: String) {
        let warning = crate::controllers::events::Severity::Warning;
        self.shared.recorder.record(&*pod, warning, "FailedScheduling", message.clone());
        if let Err(error) = binding::mark_unschedulable(&self.shared.client, &pod, &message).await {
            tracing::warn!(namespace = pod.namespace(), name = pod.name_any(), %error, "status of a waiting pod");
        }
    }
}

/// Ours to schedule: no node yet, our name, no gates, not on its way out.
fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME;
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    ours && !gated
        && pods::node_of(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !requests::is_finished(pod)
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}
