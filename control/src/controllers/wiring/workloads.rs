//! The controllers that own pods: which change of a pod, or of what they own, wakes them.

use super::{Informers, Task, WORKERS, both, enqueue, owner_key};
use crate::controllers::daemon_set::DaemonSets;
use crate::controllers::deployment::Deployments;
use crate::controllers::events::Recorder;
use crate::controllers::expectations::Expectations;
use crate::controllers::history::History;
use crate::controllers::informer::{Key, Lister};
use crate::controllers::job::Jobs;
use crate::controllers::pod_control::PodControl;
use crate::controllers::replica_set::ReplicaSets;
use crate::controllers::work_queue::WorkQueue;
use crate::controllers::{ownership, runner};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Client, Resource, ResourceExt};
use std::sync::Arc;

/// Wakes owners of one kind when a pod of theirs, or one that they might adopt, comes, goes or changes.
fn wake_owners<K>(
    informers: &mut Informers,
    owners: Lister<K>,
    selector: fn(&K) -> Option<&LabelSelector>,
    expectations: Arc<Expectations>,
    queue: &WorkQueue<Key>,
) where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let queue = queue.clone();
    let kind = K::kind(&());
    informers.pods.on_change(move |old, new| {
        let owner = |pod: Option<&Arc<Pod>>| pod.and_then(|pod| owner_key(&**pod, &kind));
        let (before, after) = (owner(old), owner(new));
        note(&expectations, old, new, before.as_ref(), after.as_ref());
        if let (Some(pod), None) = (new, &after)
            && ownership::controller_of(&pod.metadata).is_none()
        {
            let all = owners.in_namespace(&pod.namespace().unwrap_or_default());
            let selects =
                |selector: &LabelSelector| ownership::selects(selector, pod.metadata.labels.as_ref());
            let adopters = all.iter().filter(|owner| selector(owner).is_some_and(selects));
            adopters.for_each(|owner| queue.add(Key::of(&**owner)));
        }
        before.into_iter().chain(after).for_each(|key| queue.add(key));
    });
}

/// Tells the expectations of the owners that a creation or a deletion has been seen.
fn note(
    expectations: &Expectations,
    old: Option<&Arc<Pod>>,
    new: Option<&Arc<Pod>>,
    before: Option<&Key>,
    after: Option<&Key>,
) {
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

pub(super) fn replica_sets(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.replica_sets, &queue);
    let control = PodControl::new(client, informers.pods.lister(), "replicaset-controller");
    let sets = informers.replica_sets.lister();
    wake_owners(
        informers,
        sets.clone(),
        |set| set.spec.as_ref().map(|spec| &spec.selector),
        control.expectations.clone(),
        &queue,
    );
    let ready = both(sets.clone(), informers.pods.lister());
    let controller = Arc::new(ReplicaSets { client: client.clone(), replica_sets: sets, control });
    Box::pin(async move {
        ready.await;
        runner::run("replicaset", queue, WORKERS, controller).await;
    })
}

pub(super) fn deployments(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.deployments, &queue);
    let (wake, all) = (queue.clone(), informers.deployments.lister());
    informers.replica_sets.on_change(move |old, new| {
        let owner = |set: Option<&Arc<ReplicaSet>>| set.and_then(|set| owner_key(&**set, "Deployment"));
        owner(old).into_iter().chain(owner(new)).for_each(|key| wake.add(key));
        if let Some(orphan) = new.filter(|set| ownership::controller_of(&set.metadata).is_none()) {
            let namespace = orphan.namespace().unwrap_or_default();
            all.in_namespace(&namespace).iter().for_each(|deployment| wake.add(Key::of(&**deployment)));
        }
    });
    let (wake, sets) = (queue.clone(), informers.replica_sets.lister());
    // Recreate waits for the last old pod.
    informers.pods.on_change(move |old, new| {
        if let (Some(pod), None) = (old, new)
            && let Some(set) = owner_key(&**pod, "ReplicaSet").and_then(|key| sets.get(&key))
        {
            owner_key(&*set, "Deployment").into_iter().for_each(|key| wake.add(key));
        }
    });
    let controller = Arc::new(Deployments {
        client: client.clone(),
        deployments: informers.deployments.lister(),
        replica_sets: informers.replica_sets.lister(),
        pods: informers.pods.lister(),
        recorder: Recorder::new(client.clone(), "deployment-controller"),
    });
    let ready = both(informers.deployments.lister(), informers.replica_sets.lister());
    Box::pin(async move {
        ready.await;
        runner::run("deployment", queue, WORKERS, controller).await;
    })
}

pub(super) fn jobs(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.jobs, &queue);
    let control = PodControl::new(client, informers.pods.lister(), "job-controller");
    let jobs = informers.jobs.lister();
    wake_owners(
        informers,
        jobs.clone(),
        |job| job.spec.as_ref()?.selector.as_ref(),
        control.expectations.clone(),
        &queue,
    );
    let ready = both(jobs.clone(), informers.pods.lister());
    let controller = Arc::new(Jobs { client: client.clone(), jobs, control });
    Box::pin(async move {
        ready.await;
        runner::run("job", queue, WORKERS, controller).await;
    })
}

pub(super) fn daemon_sets(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.daemon_sets, &queue);
    let control = PodControl::new(client, informers.pods.lister(), "daemonset-controller");
    let sets = informers.daemon_sets.lister();
    wake_owners(
        informers,
        sets.clone(),
        |set| set.spec.as_ref().map(|spec| &spec.selector),
        control.expectations.clone(),
        &queue,
    );
    let (wake, all) = (queue.clone(), sets.clone());
    informers.nodes.on_change(move |old, new| {
        if placement(old) != placement(new) {
            all.all().iter().for_each(|set| wake.add(Key::of(&**set)));
        }
    });
    let revisions = informers.revisions.lister();
    let first = both(sets.clone(), informers.pods.lister());
    let second = both(revisions.clone(), informers.nodes.lister());
    let history = History { client: client.clone(), revisions };
    let nodes = informers.nodes.lister();
    let controller = Arc::new(DaemonSets { client: client.clone(), sets, nodes, history, control });
    Box::pin(async move {
        first.await;
        second.await;
        runner::run("daemonset", queue, 2, controller).await;
    })
}

/// What decides where daemons run: labels and taints of a node, not its heartbeats.
fn placement(node: Option<&Arc<Node>>) -> Option<impl PartialEq + use<>> {
    node.map(|node| (node.metadata.labels.clone(), node.spec.as_ref().and_then(|spec| spec.taints.clone())))
}
