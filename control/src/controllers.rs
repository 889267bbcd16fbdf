//! The controllers: each watches some kinds and writes what brings the world closer to what their objects ask for.
//!
//! They are ordinary clients of the API, handed a `kube::Client` whose transport is the server itself. Each kind is
//! watched once, whoever cares about it ([`informer`]); a change puts keys into queues ([`work_queue`]), workers
//! reconcile them ([`runner`]). What a reconcile decides is a pure function of the copies; what it does are API calls
//! with the resource version it decided on, so that a decision on old facts fails and is made again.

mod attach_detach;
mod autoscaler;
mod bootstrap_tokens;
mod busy;
mod cron_job;
mod daemon_set;
mod deployment;
pub(crate) mod disruption;
mod dynamic;
mod endpoint_mirror;
pub(crate) mod endpoint_slice;
mod endpoints;
mod ephemeral_volume;
mod event_ttl;
pub(crate) mod events;
pub(crate) mod expectations;
mod flow_schema;
mod garbage_collector;
mod history;
pub(crate) mod informer;
mod ip_address;
mod job;
mod leader;
mod metadata;
mod namespace;
mod node_cidr;
pub(crate) mod node_lifecycle;
pub(crate) mod ownership;
pub(crate) mod pod_control;
mod pod_gc;
pub(crate) mod pods;
mod policy_types;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod role_aggregation;
pub(crate) mod runner;
mod selector_words;
mod service_account;
mod service_cidr;
mod stateful_set;
pub(crate) mod status;
mod token_secrets;
mod volume;
mod volume_claim;
pub(crate) mod volume_match;
mod volume_protection;
pub(crate) mod wiring;
pub(crate) mod work_queue;

pub(crate) use service_account::ROOT_CA;

use crate::authn::service_account::Issuer;
use crate::scheduler;
use crate::server::Direct;
use leader::{Chair, Pace};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wiring::{Plane, Task};

/// What the controllers must know about the cluster.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// Addresses of pods; each node gets a part. `10.244.0.0/16`
    pub cluster_cidr: String,
    /// Addresses of services. `10.96.0.0/16`
    pub service_cidr: String,
    /// Prefix length of one node's part of `cluster_cidr`.
    pub node_cidr_mask: u8,
    /// Where pods and nodes reach the API server.
    pub advertise: IpAddr,
    /// CA certificate of the cluster, for the `kube-root-ca.crt` config maps.
    pub ca_pem: String,
    /// Signs the tokens that secrets keep.
    pub(crate) issuer: Arc<Issuer>,
    /// Who this is among those that could do the same work.
    pub identity: String,
    /// Whether other servers use the same store.
    pub shared: bool,
    /// Whether the scheduler spreads load out or fills nodes up.
    pub packing: scheduler::Packing,
}

/// The clients of both, each known to owners of fields by the name of its like in Kubernetes.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) scheduler: kube::Client,
    /// What the scheduler writes without requests, where it may.
    pub(crate) direct: Option<Direct>,
    pub(crate) controllers: kube::Client,
    /// Lists and watches for both.
    pub(crate) copies: kube::Client,
}

/// How long a leader that stops has to let go of its leases.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// What runs under the lease of `kube-scheduler`.
const SCHEDULING: &[fn(&mut Plane) -> Task] = &[scheduler::wire];

/// What runs under the lease of `kube-controller-manager`.
const CONTROLLING: &[fn(&mut Plane) -> Task] = &[
    replica_set::wire,
    replication_controller::wire,
    role_aggregation::wire,
    resource_quota::wire,
    deployment::wire,
    job::wire,
    cron_job::wire,
    autoscaler::wire,
    daemon_set::wire,
    stateful_set::wire,
    disruption::wire,
    disruption::wire_stale,
    volume::wire,
    volume_claim::wire,
    ephemeral_volume::wire,
    attach_detach::wire,
    volume_protection::wire_claims,
    volume_protection::wire_volumes,
    endpoint_slice::wire,
    endpoints::wire,
    endpoint_mirror::wire,
    namespace::wire,
    service_account::wire,
    token_secrets::wire,
    bootstrap_tokens::wire,
    service_cidr::wire,
    ip_address::wire,
    flow_schema::wire,
    policy_types::wire,
    node_cidr::wire,
    node_lifecycle::wire,
    pod_gc::wire,
    event_ttl::wire,
    garbage_collector::wire,
];

/// Runs the scheduler and the controllers, each while this process has its lease; returns when `shutdown` turns true
/// and all of them have stopped.
pub(crate) async fn run_all(
    clients: Clients,
    options: ControllerOptions,
    mut shutdown: watch::Receiver<bool>,
) {
    let pace = if options.shared { Pace::SHARED } else { Pace::ALONE };
    let chair = |name| Chair::new(&clients.controllers, name, &options.identity, pace);
    let chairs = [chair("kube-scheduler"), chair("kube-controller-manager")];
    let elections = futures_util::future::join_all(chairs.iter().map(Chair::follow));
    tokio::select! {
        () = work(&clients, &options, [chairs[0].held(), chairs[1].held()]) => {}
        _ = elections => {}
        // An error means that the sender is gone, which is a shutdown as well.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    let release = futures_util::future::join_all(chairs.iter().map(Chair::release));
    if tokio::time::timeout(LET_GO_WITHIN, release).await.is_err() {
        tracing::debug!("the leases of scheduler and controllers run out by themselves");
    }
}

/// Runs what `held` allows, on one set of copies; anew whenever that changes.
async fn work(clients: &Clients, options: &ControllerOptions, mut held: [watch::Receiver<Option<bool>>; 2]) {
    loop {
        for one in &mut held {
            // The senders live as long as this future.
            let _ = one.wait_for(Option::is_some).await;
        }
        let now = held.each_mut().map(|one| *one.borrow_and_update() == Some(true));
        let [scheduling, controlling] = &mut held;
        tokio::select! {
            () = run(clients.clone(), options.clone(), now) => {}
            _ = scheduling.wait_for(|held| *held != Some(now[0])) => {}
            _ = controlling.wait_for(|held| *held != Some(now[1])) => {}
        }
    }
}

/// Runs the scheduler, the controllers, or both, until the future is dropped.
async fn run(clients: Clients, options: ControllerOptions, [schedules, controls]: [bool; 2]) {
    let mut plane = Plane::new(clients, options);
    let scheduling = SCHEDULING.iter().filter(|_| schedules);
    let controlling = CONTROLLING.iter().filter(|_| controls);
    let tasks: Vec<Task> = scheduling.chain(controlling).map(|wire| wire(&mut plane)).collect();
    if tasks.is_empty() {
        return std::future::pending().await;
    }
    plane.run(tasks).await;
}

#[cfg(test)]
mod tests;
