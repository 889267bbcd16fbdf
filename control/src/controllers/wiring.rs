//! Which change wakes which controller: the informers, their handlers, the queues and the workers, in one place.

mod workloads;

use super::disruption::{self, Disruptions};
use super::endpoint_slice::{EndpointSlices, SERVICE_NAME};
use super::endpoints::Endpoints;
use super::event_ttl::EventTtl;
use super::events::{Recorder, Severity};
use super::garbage_collector::GarbageCollector;
use super::informer::{Informer, Key, Lister};
use super::namespace::Namespaces;
use super::node_cidr::NodeCidrs;
use super::node_lifecycle::NodeLifecycle;
use super::pod_gc::PodGc;
use super::service_account::{ROOT_CA, ServiceAccounts};
use super::work_queue::WorkQueue;
use super::{ControllerOptions, endpoint_slice, ownership, pods, runner};
use crate::scheduler::Scheduler;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    self as core, ConfigMap, Event, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Client, Resource, ResourceExt};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Workers of the controllers with many objects, as Kubernetes has them.
const WORKERS: usize = 5;

/// One informer per kind.
struct Informers {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    endpoints: Informer<core::Endpoints>,
    replica_sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    jobs: Informer<Job>,
    cron_jobs: Informer<CronJob>,
    stateful_sets: Informer<StatefulSet>,
    budgets: Informer<PodDisruptionBudget>,
    daemon_sets: Informer<DaemonSet>,
    revisions: Informer<ControllerRevision>,
    leases: Informer<Lease>,
    events: Informer<Event>,
    accounts: Informer<ServiceAccount>,
    maps: Informer<ConfigMap>,
}

/// Runs everything until the future is dropped.
pub(super) async fn run(client: Client, options: ControllerOptions) {
    let mut informers = Informers::new(&client);
    refuse(&client, &mut informers.stateful_sets);
    refuse(&client, &mut informers.cron_jobs);
    let mut tasks = vec![
        scheduler(&client, &mut informers),
        workloads::replica_sets(&client, &mut informers),
        workloads::deployments(&client, &mut informers),
        workloads::jobs(&client, &mut informers),
        workloads::daemon_sets(&client, &mut informers),
        disruptions(&client, &mut informers),
        endpoint_slices(&client, &mut informers),
        endpoints(&client, &mut informers),
        namespaces(&client, &mut informers),
        service_accounts(&client, &mut informers, &options),
        node_cidrs(&client, &mut informers, &options),
        node_lifecycle(&client, &mut informers),
        pod_gc(&client, &mut informers),
        event_ttl(&client, &mut informers),
    ];
    tasks.extend(garbage_collector(&client));
    tasks.extend(informers.run());
    // Each on a task of its own, so that they use all cores; dropped together with this future.
    let mut set = tokio::task::JoinSet::new();
    tasks.into_iter().for_each(|task| drop(set.spawn(task)));
    while let Some(ended) = set.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended");
        }
    }
}

impl Informers {
    fn new(client: &Client) -> Self {
        Self {
            pods: Informer::new(client),
            nodes: Informer::new(client),
            namespaces: Informer::new(client),
            services: Informer::new(client),
            slices: Informer::new(client),
            endpoints: Informer::new(client),
            replica_sets: Informer::new(client),
            deployments: Informer::new(client),
            jobs: Informer::new(client),
            cron_jobs: Informer::new(client),
            stateful_sets: Informer::new(client),
            budgets: Informer::new(client),
            daemon_sets: Informer::new(client),
            revisions: Informer::new(client),
            leases: Informer::new(client),
            events: Informer::new(client),
            accounts: Informer::new(client),
            maps: Informer::new(client),
        }
    }

    fn run(self) -> Vec<Task> {
        vec![
            Box::pin(self.pods.run()),
            Box::pin(self.nodes.run()),
            Box::pin(self.namespaces.run()),
            Box::pin(self.services.run()),
            Box::pin(self.slices.run()),
            Box::pin(self.endpoints.run()),
            Box::pin(self.replica_sets.run()),
            Box::pin(self.deployments.run()),
            Box::pin(self.jobs.run()),
            Box::pin(self.cron_jobs.run()),
            Box::pin(self.stateful_sets.run()),
            Box::pin(self.budgets.run()),
            Box::pin(self.daemon_sets.run()),
            Box::pin(self.revisions.run()),
            Box::pin(self.leases.run()),
            Box::pin(self.events.run()),
            Box::pin(self.accounts.run()),
            Box::pin(self.maps.run()),
        ]
    }
}

/// Puts the key of every changed object into a queue.
fn enqueue<K>(informer: &mut Informer<K>, queue: &WorkQueue<Key>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let queue = queue.clone();
    informer.on_change(move |old, new| {
        if let Some(object) = new.or(old) {
            queue.add(Key::of(&**object));
        }
    });
}

/// The controller of an object, as a key, if it is of `kind`.
fn owner_key<K: Resource<DynamicType = ()>>(object: &K, kind: &str) -> Option<Key> {
    let owner = ownership::controller_of(object.meta()).filter(|owner| owner.kind == kind)?;
    Some(Key::new(object.meta().namespace.as_deref().unwrap_or_default(), &owner.name))
}

/// Says of a kind that no controller works for it yet, rather than nothing.
fn refuse<K>(client: &Client, informer: &mut Informer<K>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let recorder = Recorder::new(client.clone(), "controller-manager");
    informer.on_change(move |old, new| {
        if let (None, Some(object)) = (old, new) {
            let message = format!("{} is not supported yet: no pods will be started", K::kind(&()));
            recorder.record(&**object, Severity::Warning, "NotSupported", message);
        }
    });
}

fn scheduler(client: &Client, informers: &mut Informers) -> Task {
    let scheduler = Scheduler::new(client.clone(), informers.pods.lister(), informers.nodes.lister());
    let changed = scheduler.clone();
    informers.pods.on_change(move |old, new| changed.pod_changed(old, new));
    let changed = scheduler.clone();
    informers.nodes.on_change(move |_, _| changed.node_changed());
    Box::pin(scheduler.run())
}

/// Wakes the services that select a changed pod, before or after the change.
fn wake_services(informers: &mut Informers, queue: &WorkQueue<Key>) {
    enqueue(&mut informers.services, queue);
    let (services, wake) = (informers.services.lister(), queue.clone());
    informers.pods.on_change(move |old, new| {
        for pod in old.into_iter().chain(new) {
            let namespace = pod.namespace().unwrap_or_default();
            for service in services.in_namespace(&namespace) {
                let matches = |selector: &std::collections::BTreeMap<String, String>| {
                    selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
                };
                if endpoint_slice::selector(&service).is_some_and(matches) {
                    wake.add(Key::of(&*service));
                }
            }
        }
    });
}

fn endpoint_slices(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    wake_services(informers, &queue);
    let wake = queue.clone();
    informers.slices.on_change(move |old, new| {
        if let Some(slice) = new.or(old)
            && let Some(service) = slice.labels().get(SERVICE_NAME)
        {
            wake.add(Key::new(&slice.namespace().unwrap_or_default(), service));
        }
    });
    let controller = Arc::new(EndpointSlices {
        client: client.clone(),
        services: informers.services.lister(),
        pods: informers.pods.lister(),
        slices: informers.slices.lister(),
    });
    let ready = both(informers.services.lister(), informers.pods.lister());
    let slices = informers.slices.lister();
    Box::pin(async move {
        ready.await;
        slices.synced().await;
        runner::run("endpointslice", queue, WORKERS, controller).await;
    })
}

fn endpoints(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    wake_services(informers, &queue);
    let controller = Arc::new(Endpoints {
        client: client.clone(),
        services: informers.services.lister(),
        pods: informers.pods.lister(),
        endpoints: informers.endpoints.lister(),
    });
    let ready = both(informers.services.lister(), informers.pods.lister());
    let existing = informers.endpoints.lister();
    Box::pin(async move {
        ready.await;
        existing.synced().await;
        runner::run("endpoint", queue, 1, controller).await;
    })
}

fn namespaces(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.namespaces, &queue);
    let controller =
        Arc::new(Namespaces { client: client.clone(), namespaces: informers.namespaces.lister() });
    Box::pin(async move {
        runner::run("namespace", queue, WORKERS, controller).await;
    })
}

fn service_accounts(client: &Client, informers: &mut Informers, options: &ControllerOptions) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.namespaces, &queue);
    let wake = queue.clone();
    informers.accounts.on_change(move |old, new| {
        if let (Some(account), None) = (old, new) {
            wake.add(Key::new("", &account.namespace().unwrap_or_default()));
        }
    });
    let wake = queue.clone();
    informers.maps.on_change(move |old, new| {
        if let Some(map) = new.or(old).filter(|map| map.name_any() == ROOT_CA) {
            wake.add(Key::new("", &map.namespace().unwrap_or_default()));
        }
    });
    let controller = Arc::new(ServiceAccounts {
        client: client.clone(),
        namespaces: informers.namespaces.lister(),
        ca_pem: options.ca_pem.clone(),
    });
    Box::pin(async move {
        runner::run("serviceaccount", queue, 1, controller).await;
    })
}

fn node_cidrs(client: &Client, informers: &mut Informers, options: &ControllerOptions) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.nodes, &queue);
    let controller = Arc::new(NodeCidrs {
        client: client.clone(),
        nodes: informers.nodes.lister(),
        cluster_cidr: options.cluster_cidr.clone(),
        node_mask: options.node_cidr_mask,
    });
    Box::pin(async move {
        runner::run("nodecidr", queue, 1, controller).await;
    })
}

fn node_lifecycle(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.nodes, &queue);
    let controller = Arc::new(NodeLifecycle {
        client: client.clone(),
        nodes: informers.nodes.lister(),
        leases: informers.leases.lister(),
        pods: informers.pods.lister(),
        started: jiff::Timestamp::now(),
    });
    let (leases, ready) =
        (informers.leases.lister(), both(informers.nodes.lister(), informers.pods.lister()));
    Box::pin(async move {
        ready.await;
        leases.synced().await;
        runner::run("node-lifecycle", queue, 1, controller).await;
    })
}

fn disruptions(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.budgets, &queue);
    let (wake, all) = (queue.clone(), informers.budgets.lister());
    informers.pods.on_change(move |old, new| {
        for pod in old.into_iter().chain(new) {
            let budgets = all.in_namespace(&pod.namespace().unwrap_or_default());
            let concerned = budgets.iter().filter(|budget| disruption::selects(budget, pod));
            concerned.for_each(|budget| wake.add(Key::of(&**budget)));
        }
    });
    let controller = Arc::new(Disruptions {
        client: client.clone(),
        budgets: informers.budgets.lister(),
        replica_sets: informers.replica_sets.lister(),
        pods: informers.pods.lister(),
    });
    let ready = both(informers.replica_sets.lister(), informers.pods.lister());
    Box::pin(async move {
        ready.await;
        runner::run("disruption", queue, 1, controller).await;
    })
}

fn pod_gc(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.pods, &queue);
    let (all, wake) = (informers.pods.lister(), queue.clone());
    informers.nodes.on_change(move |old, new| {
        if let (Some(node), None) = (old, new) {
            let name = node.name_any();
            let of_node = |pod: &&Arc<Pod>| pods::node_of(pod) == Some(name.as_str());
            all.all().iter().filter(of_node).for_each(|pod| wake.add(Key::of(&**pod)));
        }
    });
    let controller = Arc::new(PodGc {
        client: client.clone(),
        pods: informers.pods.lister(),
        nodes: informers.nodes.lister(),
    });
    let ready = both(informers.pods.lister(), informers.nodes.lister());
    Box::pin(async move {
        ready.await;
        runner::run("podgc", queue, 1, controller).await;
    })
}

fn event_ttl(client: &Client, informers: &mut Informers) -> Task {
    let queue = WorkQueue::new();
    enqueue(&mut informers.events, &queue);
    let controller = Arc::new(EventTtl { client: client.clone(), events: informers.events.lister() });
    Box::pin(async move {
        runner::run("event-ttl", queue, 1, controller).await;
    })
}

fn garbage_collector(client: &Client) -> Vec<Task> {
    let collector = GarbageCollector::new(client.clone());
    let work = runner::run("garbage-collector", collector.queue(), WORKERS, collector.clone());
    vec![Box::pin(collector.watch()), Box::pin(work)]
}

/// Resolves when both copies are complete.
async fn both<A, B>(first: Lister<A>, second: Lister<B>) {
    first.synced().await;
    second.synced().await;
}
