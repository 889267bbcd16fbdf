//! One whole node in one process: image store, network, monitors, engine, CRI server, kubelet half, kubelet API,
//! service rules and cluster DNS, started in the order of their arrows and stopped in the reverse one.
//!
//! This is the only file that knows both halves. Pods outlive it: stopping a node leaves its containers running
//! unless the caller asks otherwise, and starting it again finds them.

use crate::config::Config;
use std::sync::Arc;

/// The cluster that a node belongs to.
#[derive(Clone)]
pub struct Cluster {
    /// Speaks to the API server with the node's own identity.
    pub client: kube::Client,
    /// Certificates (PEM) that sign who may call the kubelet API; only loopback peers may where absent.
    pub client_ca_pem: Option<String>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    name: String,
}

impl Node {
    /// Starts every part; pods come from `cluster`, from the directory of manifests, or from both.
    pub async fn start(config: Arc<Config>, cluster: Option<Cluster>) -> anyhow::Result<Node> {
        let _ = (config, cluster);
        anyhow::bail!("a whole node: not supported yet")
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when the node can run pods (and, in a cluster, its Node object says Ready).
    pub async fn ready(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Stops the agent; its pods go on unless `stop_pods`. Returns every error of the way down as one.
    pub async fn shutdown(self, stop_pods: bool) -> anyhow::Result<()> {
        let _ = stop_pods;
        Ok(())
    }
}

/// Runs `count` nodes named `NAME-0`, `NAME-1`, ... whose containers are imaginary, until `shutdown` is cancelled.
pub async fn simulate(
    config: Arc<Config>,
    cluster: Cluster,
    count: usize,
    shutdown: tokio_util::sync::CancellationToken,
) -> anyhow::Result<()> {
    let _ = (config, cluster, count, shutdown);
    anyhow::bail!("simulated nodes: not supported yet")
}
