//! Garbage collection by owner references: an object goes when the last of its owners is gone (background), an
//! owner waits for its dependents (foreground), or leaves them behind as orphans.
//!
//! Metadata of every kind is watched. An owner counts as gone only when the API server, asked directly, does not
//! have an object of that uid: a copy that lags must never delete anything.

mod graph;

use super::dynamic::{self, Kind};
use super::events::{Recorder, Severity};
use super::informer::Key;
use super::metadata::Metadata;
use super::runner;
use super::runner::{Next, Reconcile, ignore_not_found, message_of};
use super::wiring::{Plane, Task, WORKERS};
use super::work_queue::WorkQueue;
use futures_util::StreamExt;
use graph::{Graph, Node, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often new kinds are looked for.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);

/// Woken by its own watches of every kind.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let collector = GarbageCollector::new(plane.client.clone(), plane.copies.clone());
    let work = runner::run("garbage-collector", collector.queue.clone(), WORKERS, collector.clone());
    Box::pin(async move {
        tokio::join!(collector.watch(), work);
    })
}

/// The collector. Its keys are uids (in the key's name).
pub(crate) struct GarbageCollector {
    client: Client,
    /// What kinds are watched with.
    copies: Client,
    graph: Mutex<Graph>,
    queue: WorkQueue<Key>,
    recorder: Recorder,
}

impl Reconcile for GarbageCollector {
    /// Looks at one object.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let node = self.graph.lock().unwrap_or_else(PoisonError::into_inner).get(&key.name);
        let Some(node) = node else { return Ok(Next::Wait) };
        if node.deleting {
            return self.finish(&node).await;
        }
        if node.owners.is_empty() {
            return Ok(Next::Wait);
        }
        let mut solid = 0;
        let mut waiting = Vec::new();
        let mut dangling = Vec::new();
        for owner in &node.owners {
            match self.look_up(&node, owner).await? {
                Owner::Gone => dangling.push(owner.uid.clone()),
                Owner::WaitsForDependents => waiting.push(owner.uid.clone()),
                Owner::Lives => solid += 1,
            }
        }
        let has_dependents = !self.dependents(&node).is_empty();
        match graph::verdict(solid, waiting.len(), dangling.len(), has_dependents) {
            Verdict::Keep => Ok(Next::Wait),
            Verdict::DropOwners => self.drop_owners(&node, &[dangling, waiting].concat()).await,
            // A circle that is left changes the object: it is deleted at the next look.
            Verdict::Delete(PropagationPolicy::Foreground) if self.leave_circle(&node).await? => {
                Ok(Next::Wait)
            }
            Verdict::Delete(PropagationPolicy::Background) => {
                self.delete(&node, node.own_policy().unwrap_or(PropagationPolicy::Background)).await
            }
            Verdict::Delete(policy) => self.delete(&node, policy).await,
        }
    }
}

impl GarbageCollector {
    /// A collector that knows nothing yet.
    pub(crate) fn new(client: Client, copies: Client) -> Arc<Self> {
        let recorder = Recorder::new(client.clone(), "garbage-collector-controller");
        Arc::new(Self { client, copies, graph: Mutex::default(), queue: WorkQueue::new(), recorder })
    }

    /// Watches every kind there is, and every kind that is added, until the future is dropped.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut watched = HashMap::new();
        loop {
            match dynamic::deletable(&self.client).await {
                Ok(kinds) => {
                    let gone: Vec<String> = watched
                        .keys()
                        .filter(|id| !kinds.iter().any(|kind| id_of(kind) == **id))
                        .cloned()
                        .collect();
                    gone.iter().for_each(|id| drop(watched.remove(id)));
                    for kind in kinds.into_iter().filter(may_have_owners) {
                        watched
                            .entry(id_of(&kind))
                            .or_insert_with(|| AbortOnDrop(tokio::spawn(self.clone().watch_kind(kind))));
                    }
                }
                Err(error) => tracing::warn!(error = message_of(&error), "discovery for garbage collection"),
            }
            tokio::time::sleep(DISCOVERY_INTERVAL).await;
        }
    }

    async fn watch_kind(self: Arc<Self>, kind: Kind) {
        // Not every server knows how to begin a watch with a list.
        if self.watch_as(&kind, watcher::Config::default().streaming_lists()).await.is_err() {
            // It ends only by such a refusal, which cannot be the answer here.
            let _ = self.watch_as(&kind, watcher::Config::default()).await;
        }
    }

    /// Watches until the server refuses to do so in this way.
    async fn watch_as(&self, kind: &Kind, config: watcher::Config) -> Result<(), Refused> {
        let streams = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
        let events = watcher(kind.metadata(&self.copies), config).default_backoff();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Err(
                    watcher::Error::WatchStartFailed(kube::Error::Api(status))
                    | watcher::Error::InitialListFailed(kube::Error::Api(status)),
                ) if streams && matches!(status.code, 400 | 422) => {
                    return Err(Refused);
                }
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    self.seen(kind, &object)
                }
                Ok(watcher::Event::Delete(object)) => self.gone(&object),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => tracing::debug!(kind = kind.resource.kind, error = message_of(&error), "watch"),
            }
        }
        Ok(())
    }

    fn seen(&self, kind: &Kind, object: &Metadata<DynamicObject>) {
        let Some(node) = Node::of(kind, &object.metadata) else { return };
        let affected = self.graph.lock().unwrap_or_else(PoisonError::into_inner).upsert(node);
        affected.into_iter().for_each(|uid| self.queue.add(Key::new("", &uid)));
    }

    fn gone(&self, object: &Metadata<DynamicObject>) {
        let Some(uid) = object.uid() else { return };
        let affected = self.graph.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        affected.into_iter().for_each(|uid| self.queue.add(Key::new("", &uid)));
    }

    /// Asks the server about an owner, by name, and compares the uid. The graph is believed only where it knows the owner
    /// as the reference describes it: one of another namespace is none, which the dependent is told.
    async fn look_up(&self, node: &Node, owner: &OwnerReference) -> Result<Owner, kube::Error> {
        let known = self.graph.lock().unwrap_or_else(PoisonError::into_inner).get(&owner.uid);
        match known {
            Some(known) if known.is_described_by(owner, node.namespace.as_deref()) => {
                return Ok(if known.waits_for_dependents() {
                    Owner::WaitsForDependents
                } else {
                    Owner::Lives
                });
            }
            Some(known) if known.namespace.is_some() && known.namespace != node.namespace => {
                self.tell_of_another_namespace(node, owner);
            }
            _ => {}
        }
        let kinds = dynamic::deletable(&self.client).await?;
        let wanted = |kind: &&Kind| {
            kind.resource.kind == owner.kind && graph::group_of(&owner.api_version) == kind.resource.group
        };
        let Some(kind) = kinds.iter().find(wanted) else {
            // An owner of a kind that nobody serves cannot be judged: leave its dependents alone.
            return Ok(Owner::Lives);
        };
        if kind.namespaced && node.namespace.is_none() {
            // Nobody knows in which namespace to look.
            return Ok(Owner::Lives);
        }
        let found = kind.api(&self.client, node.namespace.as_deref()).get_metadata_opt(&owner.name).await?;
        Ok(match found {
            Some(object) if object.metadata.uid.as_deref() == Some(owner.uid.as_str()) => {
                let finalizers = object.metadata.finalizers.unwrap_or_default();
                let foreground = object.metadata.deletion_timestamp.is_some()
                    && finalizers.iter().any(|name| name == graph::FOREGROUND);
                if foreground { Owner::WaitsForDependents } else { Owner::Lives }
            }
            _ => Owner::Gone,
        })
    }

    fn tell_of_another_namespace(&self, node: &Node, owner: &OwnerReference) {
        let namespace = node.namespace.clone().unwrap_or_default();
        let OwnerReference { api_version, kind, name, uid, .. } = owner;
        let reference = format!("[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]");
        let message = format!("ownerRef {reference} does not exist in namespace {namespace:?}");
        self.recorder.record_about(node.reference(), Severity::Warning, "OwnerRefInvalidNamespace", message);
    }

    async fn delete(&self, node: &Node, policy: PropagationPolicy) -> Result<Next, kube::Error> {
        // An owner that it was given since must not be overlooked.
        let resource_version = node.resource_version.clone();
        let parameters = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }
            .preconditions(Preconditions { uid: Some(node.uid.clone()), resource_version });
        let api = node.kind.api(&self.client, node.namespace.as_deref());
        ignore_not_found(api.delete(&node.name, &parameters).await)?;
        Ok(Next::Wait)
    }

    fn dependents(&self, node: &Node) -> Vec<Node> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner).dependents(&node.uid)
    }

    /// Owners that wait for this one, which would have to wait for one that waits already: nobody would ever be the
    /// first to go. So its owners do not wait for it. Answers whether it is changed.
    async fn leave_circle(&self, node: &Node) -> Result<bool, kube::Error> {
        match graph::without_blocking(node, &self.dependents(node)) {
            Some(owners) => {
                self.patch(node, json!({"metadata": {"uid": node.uid, "ownerReferences": owners}})).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn drop_owners(&self, node: &Node, gone: &[String]) -> Result<Next, kube::Error> {
        let kept: Vec<&OwnerReference> =
            node.owners.iter().filter(|owner| !gone.contains(&owner.uid)).collect();
        self.patch(node, json!({"metadata": {"uid": node.uid, "ownerReferences": kept}})).await?;
        Ok(Next::Wait)
    }

    /// A dying object with one of our finalizers: wait for its dependents, or set them free.
    async fn finish(&self, node: &Node) -> Result<Next, kube::Error> {
        let dependents = self.dependents(node);
        if node.finalizers.iter().any(|name| name == graph::ORPHAN) {
            for dependent in &dependents {
                self.drop_owners(dependent, std::slice::from_ref(&node.uid)).await?;
            }
            return self.drop_finalizer(node, graph::ORPHAN).await;
        }
        if !node.waits_for_dependents() {
            return Ok(Next::Wait);
        }
        let blocking: Vec<&Node> =
            dependents.iter().filter(|dependent| dependent.blocks(&node.uid)).collect();
        if blocking.is_empty() {
            return self.drop_finalizer(node, graph::FOREGROUND).await;
        }
        // One that is dying already is looked at when it changes; asked again it would ask us again.
        let living = dependents.iter().filter(|dependent| !dependent.deleting);
        living.for_each(|dependent| self.queue.add(Key::new("", &dependent.uid)));
        Ok(Next::Wait)
    }

    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<Next, kube::Error> {
        let kept: Vec<&String> = node.finalizers.iter().filter(|name| *name != finalizer).collect();
        self.patch(node, json!({"metadata": {"uid": node.uid, "resourceVersion": node.resource_version, "finalizers": kept}})).await?;
        Ok(Next::Wait)
    }

    async fn patch(&self, node: &Node, patch: serde_json::Value) -> Result<(), kube::Error> {
        let api = node.kind.api(&self.client, node.namespace.as_deref());
        ignore_not_found(api.patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }
}

enum Owner {
    Lives,
    WaitsForDependents,
    Gone,
}

/// A server does not know this kind of watch.
struct Refused;

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Events are many and belong to nobody, as Kubernetes has it.
fn may_have_owners(kind: &Kind) -> bool {
    (&*kind.resource.group, &*kind.resource.plural) != ("", "events")
}

fn id_of(kind: &Kind) -> String {
    format!("{}/{}", kind.resource.group, kind.resource.plural)
}
