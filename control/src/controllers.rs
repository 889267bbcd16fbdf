//! The controllers: each watches some kinds and writes what brings the world closer to what their objects ask for.
//!
//! They are ordinary clients of the API, handed a `kube::Client` whose transport is the server itself. Each kind is
//! watched once, whoever cares about it ([`informer`]); a change puts keys into queues ([`work_queue`]), workers
//! reconcile them ([`runner`]). What a reconcile decides is a pure function of the copies; what it does are API calls
//! with the resource version it decided on, so that a decision on old facts fails and is made again.

mod autoscaler;
mod cron_job;
mod daemon_set;
mod deployment;
pub(crate) mod disruption;
mod dynamic;
mod endpoint_mirror;
mod endpoint_slice;
mod endpoints;
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
mod namespace;
mod node_cidr;
pub(crate) mod node_lifecycle;
pub(crate) mod ownership;
pub(crate) mod pod_control;
mod pod_gc;
pub(crate) mod pods;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod role_aggregation;
pub(crate) mod runner;
mod service_account;
mod service_cidr;
mod stateful_set;
pub(crate) mod status;
mod volume;
mod volume_claim;
pub(crate) mod volume_match;
mod volume_protection;
pub(crate) mod wiring;
pub(crate) mod work_queue;

pub(crate) use service_account::ROOT_CA;

use crate::scheduler;
use std::net::IpAddr;
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
    /// Who this is among several control planes on one store; nobody where it is the only one.
    pub identity: Option<String>,
    /// Whether the scheduler spreads load out or fills nodes up.
    pub packing: scheduler::Packing,
}

/// How long a leader that stops has to let go of its lease.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// The scheduler and every controller.
const ALL: &[fn(&mut Plane) -> Task] = &[
    scheduler::wire,
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
    volume::wire,
    volume_claim::wire,
    volume_protection::wire_claims,
    volume_protection::wire_volumes,
    endpoint_slice::wire,
    endpoints::wire,
    endpoint_mirror::wire,
    namespace::wire,
    service_account::wire,
    service_cidr::wire,
    ip_address::wire,
    flow_schema::wire,
    node_cidr::wire,
    node_lifecycle::wire,
    pod_gc::wire,
    event_ttl::wire,
    garbage_collector::wire,
];

/// Runs the scheduler and every controller; returns when `shutdown` turns true and all of them have stopped.
///
/// Of several control planes on one store only the leader runs them.
pub async fn run_all(client: kube::Client, options: ControllerOptions, shutdown: watch::Receiver<bool>) {
    let mut stopped = shutdown.clone();
    // An error means that the sender is gone, which is a shutdown as well.
    let work = || async {
        let mut shutdown = shutdown.clone();
        tokio::select! {
            () = run(client.clone(), options.clone()) => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    };
    match &options.identity {
        None => work().await,
        Some(identity) => tokio::select! {
            () = leader::lead(&client, identity, work) => {}
            () = let_go(&mut stopped) => {}
        },
    }
}

/// Resolves a little after the shutdown: a leader's work ends by itself and lets go of the lease, others have nothing
/// to let go of.
async fn let_go(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
    tokio::time::sleep(LET_GO_WITHIN).await;
}

async fn run(client: kube::Client, options: ControllerOptions) {
    let mut plane = Plane::new(client, options);
    let tasks = ALL.iter().map(|wire| wire(&mut plane)).collect();
    plane.run(tasks).await;
}

#[cfg(test)]
mod tests;
