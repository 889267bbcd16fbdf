//! The scheduler: gives each new pod the node that fits it best, one at a time, in the order of priority.
//!
//! One task decides: it takes a pod from the queue, filters and scores the nodes of the snapshot, assumes the
//! decision in the snapshot, so that the next pod is judged against it, and binds in the background. The snapshot
//! follows the watches change by change. A pod that fits nowhere may take the place of less important ones, else it
//! waits until something changes that could help it.

mod alike;
mod amounts;
mod binding;
mod company;
mod crowd;
mod crowding;
mod cycle;
pub(crate) mod daemon;
mod filter;
mod neighbours;
mod news;
pub(crate) mod node_selector;
mod preemption;
mod queue;
mod request;
mod requests;
mod score;
mod snapshot;
mod spread;
mod under_way;
mod volumes;

pub use score::Packing;

use crate::controllers::events::Severity;
use crate::controllers::informer::{Key, Lister};
use crate::controllers::pods;
use crate::controllers::runner::message_of;
use crate::controllers::wiring::{Plane, Task};
use crate::server::Direct;
use company::Company;
use cycle::{Decision, Failure, Turn};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Client, ResourceExt};
use news::{News, Said};
use preemption::Outcome;
use queue::Queue;
use snapshot::Snapshot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use under_way::{Binding, UnderWay};
use volumes::{Need, Storage};

/// The name pods ask for.
pub(crate) const NAME: &str = "default-scheduler";
/// How long a decided pod waits for its claims.
const CLAIMS_BOUND_WITHIN: Duration = Duration::from_secs(60);

/// Woken by pods, nodes, and whatever else a pod may wait for.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let (pods, nodes) = (plane.informer::<Pod>(), plane.informer::<Node>());
    let (claims, volumes) = (plane.informer::<PersistentVolumeClaim>(), plane.informer::<PersistentVolume>());
    let (classes, namespaces) = (plane.informer::<StorageClass>(), plane.informer::<Namespace>());
    let storage = Storage { claims: claims.lister(), volumes: volumes.lister(), classes: classes.lister() };
    let company = Company {
        services: plane.informer::<Service>().lister(),
        replication_controllers: plane.informer::<ReplicationController>().lister(),
        replica_sets: plane.informer::<ReplicaSet>().lister(),
        stateful_sets: plane.informer::<StatefulSet>().lister(),
    };
    let (news, writer) = news::channel(plane.scheduler.clone(), plane.direct.clone());
    let shared = Shared {
        client: plane.scheduler.clone(),
        pods: pods.lister(),
        nodes: nodes.lister(),
        storage,
        company,
        budgets: plane.informer::<PodDisruptionBudget>().lister(),
        packing: plane.options.packing,
        queue: Queue::new(),
        snapshot: Mutex::default(),
        claim_changed: watch::channel(()).0,
        direct: plane.direct.clone(),
        news,
        under_way: UnderWay::default(),
    };
    let scheduler = Scheduler { shared: Arc::new(shared) };
    let changed = scheduler.clone();
    pods.on_change(move |old, new| changed.pod_changed(old, new));
    let changed = scheduler.clone();
    nodes.on_change(move |old, new| changed.node_changed(old, new));
    let changed = scheduler.clone();
    namespaces.on_change(move |old, new| changed.namespace_changed(old, new));
    let changed = scheduler.clone();
    claims.on_change(move |_, _| changed.storage_changed());
    let changed = scheduler.clone();
    volumes.on_change(move |_, _| changed.storage_changed());
    let changed = scheduler.clone();
    classes.on_change(move |_, _| changed.storage_changed());
    Box::pin(async move {
        tokio::join!(scheduler.run(), writer.run());
    })
}

/// The scheduler; cheap to clone.
#[derive(Clone)]
struct Scheduler {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    storage: Storage,
    company: Company,
    budgets: Lister<PodDisruptionBudget>,
    packing: Packing,
    queue: Queue,
    /// Locked for one change or one decision; never across an await.
    snapshot: Mutex<Snapshot>,
    /// Whenever a claim, volume or class changes.
    claim_changed: watch::Sender<()>,
    /// Writes without requests, where that may be.
    direct: Option<Direct>,
    news: News,
    under_way: UnderWay,
}

impl Scheduler {
    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod came, went or changed.
    fn pod_changed(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        let Some(pod) = new.or(old) else { return };
        let key = Key::of(&**pod);
        match new {
            Some(pod) if is_waiting(pod) => {
                self.shared.queue.add(key.clone(), priority(pod));
                if old.is_some_and(|old| old.spec != pod.spec || old.metadata.labels != pod.metadata.labels) {
                    self.shared.queue.wake(&key);
                }
            }
            _ => self.shared.queue.remove(&key),
        }
        self.snapshot().pod_changed(&key, new);
        if matters(old) != matters(new) || asks_less(old, new) {
            self.shared.queue.wake_all();
        }
    }

    /// A node came, went or changed; heartbeats help nobody.
    fn node_changed(&self, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>) {
        match (old, new) {
            (_, Some(node)) => self.snapshot().set_node(node.clone()),
            (Some(node), None) => self.snapshot().remove_node(&node.name_any()),
            (None, None) => {}
        }
        let facts = |node: Option<&Arc<Node>>| {
            let allocatable =
                |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
            node.map(|node| (node.metadata.labels.clone(), node.spec.clone(), allocatable(node)))
        };
        if facts(old) != facts(new) {
            self.shared.queue.wake_all();
        }
    }

    fn namespace_changed(&self, old: Option<&Arc<Namespace>>, new: Option<&Arc<Namespace>>) {
        let Some(name) = new.or(old).map(|namespace| namespace.name_any()) else { return };
        self.snapshot().set_namespace(name, new.map(|namespace| namespace.labels().clone()));
    }

    fn storage_changed(&self) {
        self.shared.claim_changed.send_replace(());
        self.shared.queue.wake_all();
    }

    /// Schedules until the future is dropped.
    async fn run(self) {
        let shared = &self.shared;
        shared.nodes.synced().await;
        shared.pods.synced().await;
        shared.storage.synced().await;
        shared.company.synced().await;
        shared.budgets.synced().await;
        let mut turn = Turn::default();
        loop {
            let key = shared.queue.next().await;
            if let Some(pod) = shared.pods.get(&key).filter(|pod| is_waiting(pod)) {
                self.schedule(key, pod, &mut turn);
            }
            // Decisions take no await: others get their turn here.
            tokio::task::yield_now().await;
        }
    }

    /// Decides about one pod.
    fn schedule(&self, key: Key, pod: Arc<Pod>, turn: &mut Turn) {
        let mut snapshot = self.snapshot();
        if snapshot.is_assumed(&key) {
            return;
        }
        let needs = self.shared.storage.needs(&pod);
        let known = needs.as_deref().map_err(String::as_str);
        let company = self.shared.company.of(&pod);
        match cycle::decide(&pod, known, company.as_ref(), &snapshot, self.shared.packing, turn) {
            Decision::Node(node) => {
                snapshot.assume(&key, &node, pod.clone());
                drop(snapshot);
                let binding = self.shared.under_way.begin(self.shared.queue.waiting(), &self.shared.news);
                tokio::spawn(self.clone().bind(pod, node, needs.unwrap_or_default(), binding));
            }
            Decision::None(failure) => {
                let outcome = preemption::find(
                    &pod,
                    known.unwrap_or_default(),
                    &snapshot,
                    &failure,
                    &self.shared.budgets.all(),
                );
                if let Outcome::Victims { node, .. } = &outcome {
                    snapshot.nominate(&key, Some(node), &pod);
                }
                drop(snapshot);
                self.shared.queue.park(key, priority(&pod));
                tokio::spawn(self.clone().give_up(pod, failure, outcome));
            }
        }
    }

    async fn bind(self, pod: Arc<Pod>, node: String, needs: Vec<Need>, _under_way: Binding) {
        let key = Key::of(&*pod);
        let bound = match self.bind_claims(&needs, &node).await {
            Ok(()) => {
                let Shared { client, direct, .. } = &*self.shared;
                let bound = binding::bind(client, direct.as_ref(), &pod, &node).await;
                bound.map_err(|error| format!("running Bind plugin \"DefaultBinder\": {error}"))
            }
            Err(error) => Err(format!("running PreBind plugin \"VolumeBinding\": {error}")),
        };
        match bound {
            Ok(()) => {
                let note = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
                let (severity, reason, action) = (Severity::Normal, "Scheduled", "Binding");
                self.shared.news.tell(&pod, None, Said { severity, reason, action, note });
            }
            Err(error) => {
                tracing::warn!(namespace = key.namespace, name = key.name, node, error, "bind");
                self.snapshot().forget(&key);
                self.shared.queue.park(key.clone(), priority(&pod));
                self.shared.queue.wake(&key);
                self.tell_why(&pod, "SchedulerError", error).await;
            }
        }
    }

    /// Has the pod's claims bound for its node, and waits until they are.
    async fn bind_claims(&self, needs: &[Need], node: &str) -> Result<(), String> {
        let claims = volumes::open(needs);
        for claim in &claims {
            binding::select_node(&self.shared.client, claim, node)
                .await
                .map_err(|error| message_of(&error))?;
        }
        let mut changes = self.shared.claim_changed.subscribe();
        let bound = changes.wait_for(|()| claims.iter().all(|claim| self.shared.storage.is_bound(claim)));
        match tokio::time::timeout(CLAIMS_BOUND_WITHIN, bound).await {
            Ok(_) => Ok(()),
            Err(_) => Err("binding volumes: context deadline exceeded".to_owned()),
        }
    }

    /// Says why a pod waits: its condition, and an event; and ends those that make room for it.
    async fn give_up(self, pod: Arc<Pod>, failure: Failure, outcome: Outcome) {
        let (message, victims) = match outcome {
            Outcome::None(suffix) if suffix.is_empty() => (failure.message, None),
            Outcome::None(_) if failure.nodes == 0 => (failure.message, None),
            Outcome::None(suffix) => (format!("{} {suffix}", failure.message), None),
            Outcome::Victims { node, pods } => (failure.message, Some((node, pods))),
        };
        if let Some((node, victims)) = victims {
            self.make_room(&pod, &node, &victims).await;
        }
        self.tell_why(&pod, "Unschedulable", message).await;
    }

    /// Tells why a pod has no node: in an event, and in its condition.
    async fn tell_why(&self, pod: &Pod, why: &str, message: String) {
        let (severity, reason, action) = (Severity::Warning, "FailedScheduling", "Scheduling");
        self.shared.news.tell(pod, None, Said { severity, reason, action, note: message.clone() });
        if let Err(error) = binding::mark_waiting(&self.shared.client, pod, (why, &message)).await {
            tracing::warn!(
                namespace = pod.namespace(),
                name = pod.name_any(),
                error = message_of(&error),
                "status of a waiting pod"
            );
        }
    }

    async fn make_room(&self, pod: &Arc<Pod>, node: &str, victims: &[Arc<Pod>]) {
        let client = &self.shared.client;
        let mut result = binding::nominate(client, pod, node).await;
        for victim in victims.iter().filter(|victim| victim.metadata.deletion_timestamp.is_none()) {
            result = result.and(binding::preempt(client, victim).await);
            let note = format!("Preempted by pod {} on node {node}", pod.uid().unwrap_or_default());
            let (severity, reason, action) = (Severity::Normal, "Preempted", "Preempting");
            self.shared.news.tell(victim, Some(pod), Said { severity, reason, action, note });
        }
        if let Err(error) = result {
            tracing::warn!(
                namespace = pod.namespace(),
                name = pod.name_any(),
                error = message_of(&error),
                "preemption"
            );
            self.snapshot().nominate(&Key::of(&**pod), None, pod);
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

/// What others may wait for: whether a pod takes room, and the labels that affinity looks at.
fn matters(pod: Option<&Arc<Pod>>) -> Option<(&str, &std::collections::BTreeMap<String, String>, bool)> {
    let pod = pod.filter(|pod| !requests::is_finished(pod))?;
    Some((pods::node_of(pod)?, pod.labels(), pod.metadata.deletion_timestamp.is_some()))
}

/// A pod that was resized may leave room for others.
fn asks_less(old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    let placed = pods::node_of(new).is_some();
    placed && !Arc::ptr_eq(old, new) && requests::of_pod(old) != requests::of_pod(new)
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}
