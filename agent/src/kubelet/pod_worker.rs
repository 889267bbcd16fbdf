//! One task per pod: it alone decides and acts for its pod, so a pod whose runtime calls or volumes hang delays no
//! other. The loop is observe, plan, act, report; everything that happens (a new spec, an exit, a probe's verdict,
//! a timer, the end of a batch) only wakes it up.
//!
//! At most one batch of actions runs at a time, in a task of its own, so the worker stays able to report status and
//! to notice that the pod must stop, which cancels what the batch waits for.

mod finish;
mod outcome;
mod refresh;
mod resize;

use crate::kubelet::act::{Batch, Report};
use crate::kubelet::backoff::plus;
use crate::kubelet::events::Severity;
use crate::kubelet::host::{CALL_DEADLINE, Host, within};
use crate::kubelet::observed::{self, ObservedPod};
use crate::kubelet::plan::{self, Action, Ending, Memory, Plan, Waiting, World};
use crate::kubelet::probes::Probes;
use crate::kubelet::status::{self, Inputs};
use crate::kubelet::status_writer::{StatusWriter, Target};
use crate::kubelet::{admission, pod, termination_message};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use refresh::Refresh;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Look again after this long even when nothing happened.
const RESYNC: Duration = Duration::from_secs(60);
/// Look again after a runtime that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// A pod has this long to end, whatever it or its deletion says: hooks are begun.
const LEAST_GRACE: Duration = Duration::from_secs(1);

/// Try again after this long to let a volume go.
const RELEASE_RETRY: Duration = Duration::from_secs(5);

/// What a worker is told.
#[derive(Debug, Clone)]
pub enum Command {
    /// The object has changed.
    Update(Arc<Pod>),
    /// The object is gone: stop, and forget everything.
    Gone,
    /// The node ends this pod.
    Fail {
        /// `status.reason`
        reason: String,
        /// `status.message`
        message: String,
        /// Instead of the pod's own grace period, if that is longer.
        grace: Option<Duration>,
    },
    /// Show the status in this object from now on (a static pod's mirror).
    Mirror(Option<Target>),
    /// Stop the pod and forget it here, but leave its object as it is: the node goes down.
    Leave,
    /// The agent stops: end, leaving everything as it is.
    Stop,
}

/// How the rest of the kubelet reaches a worker.
#[derive(Debug, Clone)]
pub struct Handle {
    /// A queue keeps room for dozens of what is sent, and there are two for each pod: so they hold pointers.
    commands: mpsc::UnboundedSender<Box<Command>>,
    wake: Arc<Notify>,
    /// The pod with its present status, for whoever asks this node. Closed when nothing of it runs or is held here any
    /// more: only its object may be left.
    pub shown: watch::Receiver<Arc<Pod>>,
}

impl Handle {
    /// Tells the worker something.
    pub fn send(&self, command: Command) {
        // A worker that has ended has nothing left to be told.
        let _ = self.commands.send(Box::new(command));
    }

    /// Whether the pod takes up room of the node.
    pub fn takes_room(&self) -> bool {
        self.shown.has_changed().is_ok() && !pod::is_finished(&self.shown.borrow())
    }

    /// Something about the pod may have changed in the runtime.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Starts a worker. `finished` is told the pod's uid when nothing of it is left.
pub fn spawn(
    host: Arc<Host>,
    pod: Arc<Pod>,
    rejection: Option<(String, String)>,
    finished: mpsc::UnboundedSender<String>,
) -> Handle {
    let (commands, mailbox) = mpsc::unbounded_channel();
    let (show, shown) = watch::channel(shown_at_first(&pod, rejection.as_ref()));
    let wake = Arc::new(Notify::new());
    let handle = Handle { commands, wake: wake.clone(), shown };
    let worker = Worker::new(host, pod, rejection, mailbox, wake, show);
    tokio::spawn(async move {
        if let Some(uid) = worker.run().await {
            // The receiver is gone only when the agent stops.
            let _ = finished.send(uid);
        }
    });
    handle
}

/// A pod that was refused takes up no room from the beginning.
fn shown_at_first(pod: &Arc<Pod>, rejection: Option<&(String, String)>) -> Arc<Pod> {
    let Some(rejection) = rejection else { return pod.clone() };
    let status = Some(status::rejected(pod, rejection, Timestamp::now()));
    Arc::new(Pod { status, ..Pod::clone(pod) })
}

/// The batch under way.
struct Running {
    task: JoinHandle<()>,
    cancel: CancellationToken,
    /// The grace period, if this batch stops the pod.
    stopping_within: Option<Duration>,
}

struct Worker {
    host: Arc<Host>,
    /// What its object asks for.
    requested: Arc<Pod>,
    /// The same, with the resources that the node has granted.
    pod: Arc<Pod>,
    /// Where the status is shown; none for a static pod without a mirror.
    target: Option<Target>,
    writer: StatusWriter,
    memory: Memory,
    probes: Probes,
    observed: ObservedPod,
    ending: Option<Ending>,
    /// Why the node does not take the pod.
    rejection: Option<(String, String)>,
    /// Why nothing of the pod starts, though the node has taken it.
    blocked: Option<(String, String)>,
    /// The status reported last.
    status: PodStatus,
    start_time: Timestamp,
    /// Last words by container id.
    messages: BTreeMap<String, String>,
    /// What containers waited for when last planned, to tell about each change once.
    waiting: BTreeMap<String, Waiting>,
    running: Option<Running>,
    refresh: Refresh,
    /// Volumes and cgroup have been let go.
    released: bool,
    mailbox: mpsc::UnboundedReceiver<Box<Command>>,
    wake: Arc<Notify>,
    show: watch::Sender<Arc<Pod>>,
    reports: (mpsc::UnboundedSender<Box<Report>>, mpsc::UnboundedReceiver<Box<Report>>),
}

impl Worker {
    fn new(
        host: Arc<Host>,
        pod: Arc<Pod>,
        rejection: Option<(String, String)>,
        mailbox: mpsc::UnboundedReceiver<Box<Command>>,
        wake: Arc<Notify>,
        show: watch::Sender<Arc<Pod>>,
    ) -> Worker {
        let status = pod.status.clone().unwrap_or_default();
        let in_cluster =
            host.client.is_some() && !pod::is_static(&pod) && pod.metadata.resource_version.is_some();
        let start_time = status.start_time.as_ref().map_or_else(Timestamp::now, |time| time.0);
        let mut worker = Worker {
            target: in_cluster.then(|| Target::of(&pod)),
            writer: StatusWriter::start(host.client.clone(), pod.status.clone()),
            probes: Probes::new(host.clone(), wake.clone()),
            memory: Memory::default(),
            observed: ObservedPod::default(),
            ending: None,
            rejection: rejection.clone(),
            blocked: admission::holds_back(&pod, host.apparmor),
            status,
            start_time,
            messages: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: None,
            refresh: Refresh::new(wake.clone()),
            released: false,
            mailbox,
            wake,
            show,
            reports: mpsc::unbounded_channel(),
            host,
            pod: plan::as_granted(&pod).map_or_else(|| pod.clone(), Arc::new),
            requested: pod.clone(),
        };
        worker.adopt_health();
        worker.memory.resize_pending = plan::pending_of(&pod);
        if let Some(failure) = rejection {
            worker.end(Duration::ZERO, false, Some(failure));
        } else if pod::is_finished(&pod) {
            worker.end(pod::grace_period(&pod), false, None);
        }
        worker.consider_object();
        worker
    }

    /// The loop; answers the uid when the pod is finished with, nothing when the agent stops.
    async fn run(mut self) -> Option<String> {
        loop {
            // Its memory is needed while it lasts: a worker waits nearly all its life.
            let wake_at = match Box::pin(self.turn()).await {
                Turn::Sleep(until) => until,
                Turn::Finished => return Some(pod::uid(&self.pod).to_string()),
            };
            if !self.wait(wake_at).await {
                return None;
            }
        }
    }

    /// Observes, plans, acts and reports once.
    async fn turn(&mut self) -> Turn {
        let now = Timestamp::now();
        let observed = observed::observe(&*self.host.runtime, pod::uid(&self.pod));
        match within(CALL_DEADLINE, observed).await {
            Ok(observed) => self.observed = observed,
            Err(status) => {
                tracing::warn!(pod = pod::described(&self.pod), "runtime: {}", status.message());
                return Turn::Sleep(plus(now, RETRY));
            }
        }
        self.tell_addresses();
        self.read_messages().await;
        if self.memory.resize_pending.is_some() {
            self.grant();
        }
        self.probes.follow(&self.pod, &self.observed, &mut self.memory, self.ending.is_some());
        let deadline = self.check_deadline(now);
        self.follow_objects();
        let plan = self.plan(now);
        self.tell_waiting(&plan);
        self.dispatch(&plan);
        self.refresh_volumes(now);
        self.publish(&plan, now);
        if plan.stopped && self.running.is_none() {
            if !self.release().await {
                return Turn::Sleep(plus(now, RELEASE_RETRY));
            }
            if self.ending.as_ref().is_some_and(|ending| ending.remove) {
                self.forget().await;
                return Turn::Finished;
            }
        }
        let told = status::next_told(&self.observed, &self.memory, now);
        let next = [plan.wake_at, deadline, told, Some(plus(now, RESYNC))];
        Turn::Sleep(next.into_iter().flatten().min().unwrap_or(now))
    }

    /// Tells those who keep the rules of network policies, while there is a sandbox.
    fn tell_addresses(&self) {
        let Some(policies) = &self.host.policies else { return };
        let ips = self.observed.ready_sandbox().map(|sandbox| sandbox.ips.as_slice()).unwrap_or_default();
        let addresses: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        match addresses.is_empty() {
            false => policies.announce(pod::uid(&self.pod), &self.pod, &addresses),
            true => policies.forget(pod::uid(&self.pod)),
        }
    }

    fn plan(&self, now: Timestamp) -> Plan {
        plan::plan(World {
            pod: &self.pod,
            observed: &self.observed,
            memory: &self.memory,
            ending: self.ending.as_ref(),
            blocked: self.blocked.is_some(),
            now,
        })
    }

    /// Starts the batch, unless one is under way.
    fn dispatch(&mut self, plan: &Plan) {
        let stop = plan.actions.iter().find_map(|action| match action {
            Action::StopPod { grace } => Some(*grace),
            _ => None,
        });
        if let Some(running) = &mut self.running {
            if self.ending.is_some() {
                running.cancel.cancel();
            }
            match (running.stopping_within, stop) {
                (Some(before), Some(now)) if now < before => running.stopping_within = Some(now),
                _ => return,
            }
            // The grace period was shortened: stop again, beside the call that still waits for the longer one.
            let task = tokio::spawn(self.batch(CancellationToken::new()).run(plan.actions.clone()));
            drop(task);
            return;
        }
        let makes_volumes = plan.actions.iter().any(|action| matches!(action, Action::CreateSandbox { .. }));
        if plan.actions.is_empty() || (makes_volumes && self.refresh.is_running()) {
            return;
        }
        for action in &plan.actions {
            self.note(action);
        }
        let starting = plan.actions.iter().filter_map(|action| match action {
            Action::Start { container, .. } => Some(container.clone()),
            _ => None,
        });
        self.memory.starting = starting.collect();
        let cancel = CancellationToken::new();
        let batch = self.batch(cancel.clone());
        let (actions, wake) = (plan.actions.clone(), self.wake.clone());
        let task = tokio::spawn(async move {
            batch.run(actions).await;
            wake.notify_one();
        });
        self.running = Some(Running { task, cancel, stopping_within: stop });
    }

    fn batch(&self, cancel: CancellationToken) -> Batch {
        Batch {
            host: self.host.clone(),
            pod: self.pod.clone(),
            observed: self.observed.clone(),
            reports: self.reports.0.clone(),
            cancel,
        }
    }

    /// Waits for something to happen; false when the agent stops.
    async fn wait(&mut self, until: Timestamp) -> bool {
        let pause = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::select! {
            command = self.mailbox.recv() => match command.map(|command| *command) {
                Some(Command::Stop) | None => return false,
                Some(command) => self.command(command),
            },
            Some(report) = self.reports.1.recv() => self.remember(*report),
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
        }
        while let Ok(report) = self.reports.1.try_recv() {
            self.remember(*report);
        }
        if self.running.as_ref().is_some_and(|running| running.task.is_finished()) {
            self.running = None;
            self.memory.starting.clear();
        }
        true
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Update(pod) => {
                self.refresh.pod_changed(&self.pod, &pod);
                self.requested = pod;
                self.grant();
                self.consider_object();
            }
            Command::Gone => self.end(pod::grace_period(&self.pod), true, None),
            Command::Leave => {
                self.target = None;
                self.end(pod::grace_period(&self.pod), true, None);
            }
            Command::Fail { reason, message, grace } => {
                let own = pod::grace_period(&self.pod);
                let grace = grace.map_or(own, |grace| grace.min(own));
                self.end(grace, false, Some((reason, message)));
            }
            Command::Mirror(target) => {
                self.target = target;
                self.writer = StatusWriter::start(self.host.client.clone(), None);
                if self.target.is_some() {
                    self.writer.write(self.target.clone(), self.status.clone());
                }
            }
            Command::Stop => {}
        }
    }

    /// A deleted object ends the pod.
    fn consider_object(&mut self) {
        if pod::is_deleted(&self.pod) {
            self.end(pod::grace_period(&self.pod), true, None);
        }
    }

    /// The pod must stop. A second word can only make it sooner and more thorough.
    fn end(&mut self, grace: Duration, remove: bool, failure: Option<(String, String)>) {
        let before = self.ending.take();
        let grace = grace.max(LEAST_GRACE);
        self.ending = Some(Ending {
            grace: before.as_ref().map_or(grace, |before| before.grace.min(grace)),
            remove: remove || before.as_ref().is_some_and(|before| before.remove),
            failure: before.and_then(|before| before.failure).or(failure),
        });
    }

    /// `activeDeadlineSeconds`; answers when it will strike.
    fn check_deadline(&mut self, now: Timestamp) -> Option<Timestamp> {
        let seconds = u64::try_from(pod::spec(&self.pod).active_deadline_seconds?).ok()?;
        let deadline = plus(self.start_time, Duration::from_secs(seconds));
        if self.ending.is_some() || now < deadline {
            return Some(deadline).filter(|_| self.ending.is_none());
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.host.recorder.pod(&self.pod, Severity::Normal, "DeadlineExceeded", message);
        self.end(pod::grace_period(&self.pod), false, Some(("DeadlineExceeded".into(), message.into())));
        None
    }

    fn publish(&mut self, plan: &Plan, now: Timestamp) {
        let status = match &self.rejection {
            Some(rejection) => status::rejected(&self.pod, rejection, self.start_time),
            None => self.computed_status(plan, now),
        };
        // A pod that had ended before this agent started, and whose containers are gone, stays as it was reported.
        let lost = pod::is_finished(&self.pod) && self.observed.containers.is_empty();
        if status == self.status || lost {
            return;
        }
        self.status = status;
        if self.target.is_some() {
            self.writer.write(self.target.clone(), self.status.clone());
        }
        let mut shown = Pod::clone(&self.pod);
        shown.status = Some(self.status.clone());
        self.show.send_replace(Arc::new(shown));
    }

    fn computed_status(&self, plan: &Plan, now: Timestamp) -> PodStatus {
        status::pod_status(Inputs {
            pod: &self.pod,
            previous: &self.status,
            observed: &self.observed,
            memory: &self.memory,
            waiting: &plan.waiting,
            messages: &self.messages,
            ending: self.ending.as_ref(),
            blocked: self.blocked.as_ref(),
            stopped: plan.stopped,
            host_ips: &self.host.node_ips,
            runtime_name: &self.host.runtime_name,
            start_time: self.start_time,
            now,
        })
    }

    async fn read_messages(&mut self) {
        let known = &self.messages;
        let fresh = self.observed.containers.iter().filter(|c| c.is_dead() && !known.contains_key(&c.id));
        let fresh: Vec<_> = fresh.cloned().collect();
        if fresh.is_empty() {
            return;
        }
        let read = move || {
            fresh.into_iter().map(|c| (c.id.clone(), termination_message::read(&c))).collect::<Vec<_>>()
        };
        let messages = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let present: Vec<&String> = self.observed.containers.iter().map(|container| &container.id).collect();
        self.messages.retain(|id, _| present.contains(&id));
        self.messages.extend(messages.into_iter().filter(|(_, message)| !message.is_empty()));
    }
}

/// What follows a turn.
enum Turn {
    Sleep(Timestamp),
    Finished,
}
