//! DaemonSet: one pod on every node that suits it, bound there by the scheduler through its affinity to that node.

mod plan;
mod template;

use super::history::History;
use super::informer::{Key, Lister};
use super::pod_control::PodControl;
use super::runner::{Next, Reconcile};
use super::wiring::{Plane, Task, Wire};
use super::{events::Severity, status};
use crate::scheduler::daemon;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::Node;
use kube::{Client, ResourceExt};
use plan::World;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Woken by its sets, their pods, and nodes whose labels or taints change.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("daemonset", plane);
    let sets = wire.keys::<DaemonSet>();
    let control =
        wire.pods::<DaemonSet>("daemonset-controller", |set| Some(set.spec.as_ref()?.selector.clone()));
    let (all, nodes) = (sets.clone(), wire.reads());
    wire.woken_by::<Node>(move |old, new, queue| {
        if placement(old) != placement(new) {
            all.all().iter().for_each(|set| queue.add(Key::of(&**set)));
        }
    });
    let history = History { client: wire.client(), revisions: wire.reads() };
    let controller = DaemonSets { client: wire.client(), sets, nodes, history, control };
    wire.run(2, controller)
}

/// What decides where daemons run: labels and taints of a node, not its heartbeats.
fn placement(node: Option<&Arc<Node>>) -> Option<impl PartialEq + use<>> {
    node.map(|node| (node.metadata.labels.clone(), node.spec.as_ref().and_then(|spec| spec.taints.clone())))
}

/// Everything one reconcile needs.
pub(crate) struct DaemonSets {
    pub(crate) client: Client,
    pub(crate) sets: Lister<DaemonSet>,
    pub(crate) nodes: Lister<Node>,
    pub(crate) history: History,
    pub(crate) control: PodControl,
}

impl Reconcile for DaemonSets {
    /// Brings every node closer to one pod of the present template.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(set) = self.sets.get(&key) else {
            self.control.expectations.forget(&key);
            return Ok(Next::Wait);
        };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(Next::Wait);
        };
        let pods = self.control.claim(&*set, &spec.selector).await?;
        let revisions = self.history.sync(&*set, &spec.template).await?;
        let fits = daemon::fits(&template::pod(&set, None, ""), self.nodes.all());
        let now = Timestamp::now();
        let world = World::new(&set, spec, revisions.hash(), fits, pods, now);
        let result = self.act(&set, &world, &key).await;
        self.write_status(&set, &world).await?;
        let live: BTreeSet<String> = world.hashes();
        self.history.truncate(&revisions, spec.revision_history_limit.unwrap_or(10), &live).await?;
        result.map(|()| world.next_look())
    }
}

impl DaemonSets {
    async fn act(&self, set: &DaemonSet, world: &World<'_>, key: &Key) -> Result<(), kube::Error> {
        if !self.control.expectations.met(key) {
            return Ok(());
        }
        let plan = world.plan();
        for (pod, node) in &plan.failed {
            let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            let (severity, reason, message) = match super::pods::phase(pod) {
                "Succeeded" => {
                    let message =
                        format!("Found succeeded daemon pod {place} on node {node}, will try to delete it");
                    (Severity::Normal, "SucceededDaemonPod", message)
                }
                _ => {
                    let message =
                        format!("Found failed daemon pod {place} on node {node}, will try to kill it");
                    (Severity::Warning, "FailedDaemonPod", message)
                }
            };
            self.control.recorder.record(set, severity, reason, message);
        }
        let create = plan.create.iter().map(|node| template::pod(set, Some(node), world.hash()));
        self.control.apply(set, create.collect(), plan.delete).await
    }

    async fn write_status(&self, set: &DaemonSet, world: &World<'_>) -> Result<(), kube::Error> {
        let new = world.status();
        if set.status.as_ref() == Some(&new) {
            return Ok(());
        }
        status::replace(&self.client, &DaemonSet { status: Some(new), ..set.clone() }).await
    }
}

/// Seconds a pod must be ready to be available.
fn min_ready(spec: &DaemonSetSpec) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(spec.min_ready_seconds.unwrap_or(0).into())
}
