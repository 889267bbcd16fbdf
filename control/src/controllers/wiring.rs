//! How a controller is put together: the copies it reads, the changes that wake it, its queue and its workers.
//!
//! A kind is watched once, whoever asks for it, and a controller starts when every copy it reads is complete. What
//! wakes a controller stands in its own file, in its `wire`.

use super::expectations::Expectations;
use super::informer::{Informer, Key, Lister, Watched};
use super::pod_control::PodControl;
use super::runner::{self, Reconcile};
use super::work_queue::WorkQueue;
use super::{Clients, ControllerOptions, ownership};
use crate::server::Direct;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Client, Resource, ResourceExt};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Something that runs until it is dropped.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Workers of the controllers with many objects, as Kubernetes has them.
pub(crate) const WORKERS: usize = 5;

/// What all controllers share: a client, the options, one informer per kind.
pub(crate) struct Plane {
    pub(crate) client: Client,
    /// Whose writes are the scheduler's.
    pub(crate) scheduler: Client,
    /// The same without requests.
    pub(crate) direct: Option<Direct>,
    pub(crate) options: ControllerOptions,
    /// What copies are made with.
    pub(crate) copies: Client,
    informers: HashMap<TypeId, Box<dyn Any + Send>>,
    watches: Vec<Task>,
}

impl Plane {
    /// No kind is watched yet.
    pub(crate) fn new(clients: Clients, options: ControllerOptions) -> Self {
        let Clients { scheduler, direct, controllers: client, copies } = clients;
        Self { client, scheduler, direct, copies, options, informers: HashMap::new(), watches: Vec::new() }
    }

    /// The informer of a kind.
    pub(crate) fn informer<K: Watched>(&mut self) -> Informer<K> {
        let known = self.informers.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Informer<K>>());
        if let Some(known) = known {
            return known.clone();
        }
        // When an event was written stands with the owners of its fields.
        let whole = K::kind(&()) == "Event";
        let informer = Informer::new(if whole { &self.client } else { &self.copies });
        self.watches.push(Box::pin(informer.clone().run()));
        self.informers.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }

    /// Runs these tasks and the watches behind them until the future is dropped.
    pub(crate) async fn run(self, mut tasks: Vec<Task>) {
        tasks.extend(self.watches);
        // Each on a task of its own, so that they use all cores; dropped together with this future.
        let mut set = tokio::task::JoinSet::new();
        tasks.into_iter().for_each(|task| drop(set.spawn(task)));
        while let Some(ended) = set.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller ended");
            }
        }
    }
}

/// One controller on its way to running.
pub(crate) struct Wire<'a> {
    name: &'static str,
    plane: &'a mut Plane,
    queue: WorkQueue<Key>,
    ready: Vec<Task>,
}

impl<'a> Wire<'a> {
    /// `name` is what logs call it.
    pub(crate) fn new(name: &'static str, plane: &'a mut Plane) -> Self {
        Self { name, plane, queue: WorkQueue::new(), ready: Vec::new() }
    }

    /// The client of all controllers.
    pub(crate) fn client(&self) -> Client {
        self.plane.client.clone()
    }

    /// The copy of a kind; the controller starts when it is complete.
    pub(crate) fn reads<K: Watched>(&mut self) -> Lister<K> {
        let lister = self.plane.informer::<K>().lister();
        let ready = lister.clone();
        self.ready.push(Box::pin(async move { ready.synced().await }));
        lister
    }

    /// The kind whose objects are the controller's keys.
    pub(crate) fn keys<K: Watched>(&mut self) -> Lister<K> {
        self.woken_by::<K>(|old, new, queue| {
            if let Some(object) = new.or(old) {
                queue.add(Key::of(&**object));
            }
        });
        self.reads()
    }

    /// A kind whose objects wake their controlling owner of kind `owner`, before and after each change.
    pub(crate) fn owned<K: Watched>(&mut self, owner: &'static str) -> Lister<K> {
        self.woken_by::<K>(move |old, new, queue| {
            let key = |object: Option<&Arc<K>>| object.and_then(|object| owner_key(&**object, owner));
            key(old).into_iter().chain(key(new)).for_each(|key| queue.add(key));
        });
        self.reads()
    }

    /// Calls `wake` with (before, after) for every change of a kind.
    pub(crate) fn woken_by<K: Watched>(
        &mut self,
        wake: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>, &WorkQueue<Key>) + Send + Sync + 'static,
    ) {
        let queue = self.queue.clone();
        self.plane.informer::<K>().on_change(move |old, new| wake(old, new, &queue));
    }

    /// Pods of owners of a kind: one that comes, goes or changes wakes its owner, or those that might adopt it.
    pub(crate) fn pods<K: Watched>(
        &mut self,
        component: &'static str,
        selector: fn(&K) -> Option<LabelSelector>,
    ) -> PodControl {
        let owners = self.reads::<K>();
        let control = PodControl::new(&self.client(), self.reads(), component);
        let expectations = control.expectations.clone();
        let kind = K::kind(&());
        self.woken_by::<Pod>(move |old, new, queue| {
            let owner = |pod: Option<&Arc<Pod>>| pod.and_then(|pod| owner_key(&**pod, &kind));
            let (before, after) = (owner(old), owner(new));
            note(&expectations, (old, before.as_ref()), (new, after.as_ref()));
            if let (Some(pod), None) = (new, &after) {
                adopters(&owners, selector, pod).into_iter().for_each(|key| queue.add(key));
            }
            before.into_iter().chain(after).for_each(|key| queue.add(key));
        });
        control
    }

    /// The controller at work, once its copies are complete.
    pub(crate) fn run(self, workers: usize, controller: impl Reconcile) -> Task {
        let Self { name, queue, ready, .. } = self;
        Box::pin(async move {
            futures_util::future::join_all(ready).await;
            runner::run(name, queue, workers, Arc::new(controller)).await;
        })
    }
}

/// The controller of an object, as a key, if it is of `kind`.
pub(crate) fn owner_key<K: Resource<DynamicType = ()>>(object: &K, kind: &str) -> Option<Key> {
    let owner = ownership::controller_of(object.meta()).filter(|owner| owner.kind == kind)?;
    Some(Key::new(object.meta().namespace.as_deref().unwrap_or_default(), &owner.name))
}

/// Who might adopt a pod without a controller.
fn adopters<K: Watched>(
    owners: &Lister<K>,
    selector: fn(&K) -> Option<LabelSelector>,
    pod: &Pod,
) -> Vec<Key> {
    if ownership::controller_of(&pod.metadata).is_some() {
        return Vec::new();
    }
    let all = owners.in_namespace(&pod.namespace().unwrap_or_default());
    let selects = |selector: LabelSelector| ownership::selects(&selector, pod.metadata.labels.as_ref());
    all.iter().filter(|owner| selector(owner).is_some_and(selects)).map(|owner| Key::of(&**owner)).collect()
}

/// A pod and its owner, before or after a change.
type Seen<'a> = (Option<&'a Arc<Pod>>, Option<&'a Key>);

/// Tells the expectations of the owners that a creation or a deletion has been seen.
fn note(expectations: &Expectations, (old, before): Seen<'_>, (new, after): Seen<'_>) {
    if let (None, Some(key)) = (old, after) {
        expectations.created(key);
    }
    let dying = |pod: &Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
    if let (Some(pod), Some(key)) = (old.or(new), before.or(after))
        && new.is_none_or(dying)
    {
        expectations.deleted(key, &pod.uid().unwrap_or_default());
    }
}
