//! The controllers: each watches some kinds and writes what brings the world closer to what their objects ask for.
//!
//! They are ordinary clients of the API, handed a `kube::Client` whose transport is the server itself. Each kind is
//! watched once, whoever cares about it ([`informer`]); a change puts keys into queues ([`work_queue`]), workers
//! reconcile them ([`runner`]). What a reconcile decides is a pure function of the copies; what it does are API calls
//! with the resource version it decided on, so that a decision on old facts fails and is made again.

mod daemon_set;
mod deployment;
mod disruption;
mod dynamic;
mod endpoint_slice;
mod endpoints;
mod event_ttl;
pub(crate) mod events;
pub(crate) mod expectations;
mod garbage_collector;
mod history;
pub(crate) mod informer;
mod job;
mod namespace;
mod node_cidr;
pub(crate) mod node_lifecycle;
pub(crate) mod ownership;
pub(crate) mod pod_control;
mod pod_gc;
pub(crate) mod pods;
mod replica_set;
pub(crate) mod runner;
mod service_account;
pub(crate) mod status;
mod wiring;
pub(crate) mod work_queue;

use std::net::IpAddr;
use tokio::sync::watch;

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
}

/// Starts the scheduler and every controller; returns when `shutdown` turns true and all of them have stopped.
pub async fn run_all(client: kube::Client, options: ControllerOptions, mut shutdown: watch::Receiver<bool>) {
    tokio::select! {
        () = wiring::run(client, options) => {}
        // An error means that the sender is gone, which is a shutdown as well.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

#[cfg(test)]
mod tests;
