//! Keeps one worker per pod: starts them for pods that sources announce (if the node admits them), passes changes
//! on, and ends those that no source wants. Pods that the runtime has but nobody wants are orphans: a worker stops
//! and removes them. One task owns all of this; others talk to it by messages or read the list of workers.

mod mirror;
mod orphans;
mod preempting;

use crate::kubelet::admission::{self, NodeLimits};
use crate::kubelet::events::Severity;
use crate::kubelet::host::Host;
use crate::kubelet::plan;
use crate::kubelet::pleg::Pleg;
use crate::kubelet::pod;
use crate::kubelet::pod_source::{Origin, SourceEvent};
use crate::kubelet::pod_worker::{self, Command, Handle};
use crate::kubelet::qos_cgroups::{self, Weights};
use k8s_openapi::api::core::v1::Pod;
use mirror::Mirrors;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Between two looks for orphans and mirrors.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
/// After the last pod that came or went.
const SETTLED: Duration = Duration::from_secs(15);

/// The workers by pod uid, for readers. Cheap to clone; held only to copy.
#[derive(Debug, Clone, Default)]
pub struct Workers {
    handles: Arc<Mutex<BTreeMap<String, Handle>>>,
    /// Held while somebody decides who gets the room of the node that is left.
    room: Arc<Mutex<()>>,
}

impl Workers {
    /// Every pod of this node with its present status.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.handles().iter().map(|handle| handle.shown.borrow().clone()).collect()
    }

    /// The pods that take up room of this node.
    fn occupants(&self) -> Vec<Arc<Pod>> {
        let handles = self.handles().into_iter().filter(pod_worker::Handle::takes_room);
        handles.map(|handle| handle.shown.borrow().clone()).collect()
    }

    /// The pods that take up room beside this one.
    pub fn others(&self, uid: &str) -> Vec<Arc<Pod>> {
        self.occupants().into_iter().filter(|other| pod::uid(other) != uid).collect()
    }

    /// Until it is dropped nobody else decides about the room of the node.
    pub fn room(&self) -> MutexGuard<'_, ()> {
        // It guards no data that could be left half changed.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pods that wait for room look again.
    fn room_is_free(&self) {
        let waits = |handle: &&Handle| plan::pending_of(&handle.shown.borrow()).is_some();
        self.handles().iter().filter(waits).for_each(Handle::wake);
    }

    /// Tells a pod's worker something, if there is one.
    pub fn send(&self, uid: &str, command: Command) {
        if let Some(handle) = self.get(uid) {
            handle.send(command);
        }
    }

    fn handles(&self) -> Vec<Handle> {
        self.handles.lock().map(|workers| workers.values().cloned().collect()).unwrap_or_default()
    }

    fn get(&self, uid: &str) -> Option<Handle> {
        self.handles.lock().ok()?.get(uid).cloned()
    }

    fn insert(&self, uid: &str, handle: Handle) {
        if let Ok(mut workers) = self.handles.lock() {
            workers.insert(uid.to_string(), handle);
        }
    }

    fn remove(&self, uid: &str) {
        if let Ok(mut workers) = self.handles.lock() {
            workers.remove(uid);
        }
    }
}

/// What the manager listens to.
#[derive(Debug)]
pub struct Inputs {
    /// From every source.
    pub sources: mpsc::UnboundedReceiver<SourceEvent>,
    /// Uids of pods that changed in the runtime.
    pub changed: mpsc::UnboundedReceiver<String>,
    /// The node stops: every pod is to be stopped first when it says so.
    pub shutdown: CancellationToken,
}

/// A pod that some source wants.
struct Wanted {
    pod: Arc<Pod>,
    origin: Origin,
}

/// The task that owns the workers.
pub struct Manager {
    host: Arc<Host>,
    pleg: Arc<Pleg>,
    limits: NodeLimits,
    workers: Workers,
    /// By uid: what sources want, as last told.
    wanted: BTreeMap<String, Wanted>,
    /// Static pods that wait for a predecessor of the same name to end.
    queued: Vec<Arc<Pod>>,
    /// Critical pods for which others make room.
    waiting: preempting::Waiting,
    /// Uids of pods that no source wants any more and that still end.
    leaving: BTreeSet<String>,
    mirrors: Mirrors,
    /// Sources that have not told all their pods yet.
    unsynced: Vec<Origin>,
    finished: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    rounds: u64,
    /// What the classes of pods weigh, as last written.
    weights: Option<Weights>,
    /// When a pod came or went last, until the memory of that has been given back.
    unsettled: Option<Instant>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager that expects pods from `sources` and lists its workers in `workers`.
    pub fn new(
        host: Arc<Host>,
        pleg: Arc<Pleg>,
        limits: NodeLimits,
        sources: Vec<Origin>,
        workers: Workers,
    ) -> Manager {
        Manager {
            mirrors: Mirrors::new(host.client.clone(), &host.node_name, host.node.clone()),
            host,
            pleg,
            limits,
            workers,
            wanted: BTreeMap::new(),
            queued: Vec::new(),
            waiting: preempting::Waiting::new(),
            leaving: BTreeSet::new(),
            unsynced: sources,
            finished: mpsc::unbounded_channel(),
            rounds: 0,
            weights: None,
            unsettled: None,
        }
    }

    /// Works until shutdown; then the workers are told to leave everything as it is.
    pub async fn run(mut self, mut inputs: Inputs) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = inputs.shutdown.cancelled() => break,
                Some(event) = inputs.sources.recv() => self.source_event(event),
                Some(uid) = inputs.changed.recv() => if let Some(worker) = self.workers.get(&uid) {
                    worker.wake();
                },
                Some(uid) = self.finished.1.recv() => self.ended(&uid),
                _ = ticks.tick() => self.housekeeping(),
            }
        }
        for worker in self.workers.handles() {
            worker.send(Command::Stop);
        }
    }

    fn source_event(&mut self, event: SourceEvent) {
        self.unsettled = Some(Instant::now());
        match event {
            SourceEvent::Upsert(pod) if pod::is_mirror(&pod) => self.mirrors.seen(&pod),
            SourceEvent::Upsert(pod) => self.upsert(pod),
            SourceEvent::Gone(uid) => {
                self.mirrors.gone(&uid);
                self.unwanted(&uid);
            }
            SourceEvent::All(origin, uids) => {
                self.unsynced.retain(|other| *other != origin);
                let present: BTreeSet<String> = uids.into_iter().collect();
                let gone =
                    self.wanted.iter().filter(|(uid, w)| w.origin == origin && !present.contains(*uid));
                for uid in gone.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
                    self.unwanted(&uid);
                }
                if origin == Origin::Cluster {
                    self.mirrors.keep_only(&present);
                }
            }
        }
    }

    fn upsert(&mut self, pod: Arc<Pod>) {
        let uid = pod::uid(&pod).to_string();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if uid.is_empty() || uid.starts_with('.') || !uid.chars().all(legal) {
            tracing::error!(pod = pod::described(&pod), "a uid that cannot be a directory name: ignored");
            return;
        }
        let origin = Origin::of(&pod);
        let known = self.wanted.insert(uid.clone(), Wanted { pod: pod.clone(), origin }).is_some();
        match self.workers.get(&uid) {
            // The same file is there again: the pod begins anew once it has ended.
            Some(_) if origin != Origin::Cluster && self.leaving.contains(&uid) => {
                self.queued.retain(|queued| pod::uid(queued) != uid);
                self.queued.push(pod);
            }
            Some(worker) => worker.send(Command::Update(pod)),
            None if self.waiting.contains_key(&uid) && !pod::is_deleted(&pod) => {}
            None if self.waiting.remove(&uid).is_some() => self.start(pod),
            None if known && !self.queued.iter().any(|queued| pod::uid(queued) == uid) => {
                // Its worker has ended: the object only waits to be deleted.
            }
            None if origin != Origin::Cluster && self.predecessor(&pod) => self.queued.push(pod),
            None => self.start(pod),
        }
    }

    /// Another pod of the same name is still there.
    fn predecessor(&self, pod: &Pod) -> bool {
        self.workers.handles().iter().any(|worker| {
            let other = worker.shown.borrow();
            pod::name(&other) == pod::name(pod) && pod::namespace(&other) == pod::namespace(pod)
        })
    }

    fn start(&mut self, pod: Arc<Pod>) {
        let uid = pod::uid(&pod).to_string();
        let workers = self.workers.clone();
        let _room = workers.room();
        let rejection = match self.admit(&pod) {
            Ok(victims) if !victims.is_empty() => return self.preempt(&pod, &victims),
            admitted => admitted.err(),
        };
        if let Some(rejection) = &rejection {
            self.tell_rejection(&pod, rejection);
        }
        let worker = pod_worker::spawn(self.host.clone(), pod.clone(), rejection, self.finished.0.clone());
        if let Some(target) = self.mirrors.target(&pod) {
            worker.send(Command::Mirror(Some(target)));
        }
        self.workers.insert(&uid, worker);
    }

    /// A pod that runs already, has ended, or is on its way out needs no permission. The pods that must end first.
    fn admit(&self, pod: &Pod) -> Result<Vec<Arc<Pod>>, admission::Rejection> {
        let settled =
            self.pleg.known().contains_key(pod::uid(pod)) || pod::is_finished(pod) || pod::is_deleted(pod);
        if settled {
            return Ok(Vec::new());
        }
        let limits = self.limits_now();
        let short = *self.host.pressure.borrow();
        admission::stays_up(*self.host.shutting_down.borrow())?;
        admission::withstands(pod, short)?;
        admission::allows_sysctls(pod, &self.limits.unsafe_sysctls)?;
        admission::is_for_this_system(pod)?;
        admission::keeps_groups(pod, &limits)?;
        let victims = preempting::make_room(pod, &self.occupants(), &limits)?;
        if victims.is_empty() {
            self.host.cpus.reserve(pod).map_err(admission::not_allocated)?;
            self.host.devices.reserve(pod).map_err(admission::unexpected)?;
        }
        Ok(victims)
    }

    /// Who takes up room. A pod without an object does not, though its processes may have seconds yet to end: whoever bound
    /// another one to this node saw it gone.
    fn occupants(&self) -> Vec<Arc<Pod>> {
        let all = self.workers.occupants().into_iter();
        all.filter(|other| !self.leaving.contains(pod::uid(other))).collect()
    }

    fn tell_rejection(&self, pod: &Pod, (reason, message): &admission::Rejection) {
        tracing::warn!(pod = pod::described(pod), reason, "{message}");
        let known = admission::REASONS.iter().find(|known| *known == reason);
        let word: &'static str = known.copied().unwrap_or("UnexpectedAdmissionError");
        let text = message.trim_start_matches("Pod was rejected: ").to_string();
        self.host.recorder.pod(pod, Severity::Warning, word, text);
    }

    /// The node with the labels and taints that it has in the cluster now, which others may have put there.
    fn limits_now(&self) -> NodeLimits {
        let node = self.host.node.borrow().clone();
        let Some(node) = node else { return self.limits.clone() };
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        NodeLimits { labels, taints, ..self.limits.clone() }
    }

    fn unwanted(&mut self, uid: &str) {
        self.wanted.remove(uid);
        self.waiting.remove(uid);
        self.queued.retain(|pod| pod::uid(pod) != uid);
        if let Some(worker) = self.workers.get(uid) {
            self.leaving.insert(uid.to_string());
            worker.send(Command::Gone);
        }
    }

    /// A worker has nothing left to do.
    fn ended(&mut self, uid: &str) {
        self.unsettled = Some(Instant::now());
        self.workers.remove(uid);
        self.leaving.remove(uid);
        self.workers.room_is_free();
        let ready: Vec<Arc<Pod>> = self.queued.iter().filter(|pod| !self.predecessor(pod)).cloned().collect();
        for pod in ready {
            self.queued.retain(|queued| pod::uid(queued) != pod::uid(&pod));
            self.start(pod);
        }
    }

    fn housekeeping(&mut self) {
        self.admit_waiting();
        if !self.unsynced.is_empty() {
            return;
        }
        self.rounds += 1;
        self.give_memory_back();
        self.weigh_classes();
        self.end_orphans();
        if self.rounds % 30 == 1 {
            self.remove_left_overs();
        }
        let statics = self.wanted.values().filter(|wanted| wanted.origin != Origin::Cluster);
        let statics: Vec<Arc<Pod>> = statics.map(|wanted| wanted.pod.clone()).collect();
        let leaving = |pod: &Arc<Pod>| pod::is_static(pod) && self.leaving.contains(pod::uid(pod));
        let ending: Vec<Arc<Pod>> = self.workers.pods().into_iter().filter(leaving).collect();
        for (uid, target) in self.mirrors.reconcile(&statics, &ending) {
            if let Some(worker) = self.workers.get(&uid) {
                worker.send(Command::Mirror(target));
            }
        }
    }
}

impl Manager {
    /// Starting and ending many pods takes a good deal more memory than having them.
    fn give_memory_back(&mut self) {
        if self.unsettled.is_some_and(|last| last.elapsed() > SETTLED) {
            self.unsettled = None;
            tokio::task::spawn_blocking(knarr_sys::memory::give_back);
        }
    }

    /// Keeps the weights of the classes of pods true.
    fn weigh_classes(&mut self) {
        let Some(hierarchies) = self.host.hierarchies.clone() else { return };
        let weights = qos_cgroups::weights(&self.workers.pods(), self.host.memory_qos.is_some());
        // A class gets its cgroup with its first pod, so now and then the same is written again.
        if self.weights.replace(weights) != Some(weights) || self.rounds.is_multiple_of(5) {
            let root = self.host.cgroup_root.clone();
            tokio::task::spawn_blocking(move || qos_cgroups::write(&hierarchies, &root, weights));
        }
    }
}

/// Stops every pod, leaving API objects as they are; returns when all are gone or the deadline has passed.
pub async fn stop_all(workers: &Workers, deadline: Duration) -> Result<(), String> {
    for worker in workers.handles() {
        worker.send(Command::Leave);
    }
    let gone = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !workers.handles().is_empty() {
            ticks.tick().await;
        }
    };
    let left = || workers.pods().iter().map(|pod| pod::described(pod)).collect::<Vec<_>>().join(", ");
    tokio::time::timeout(deadline, gone).await.map_err(|_| format!("still running: {}", left()))
}
