//! Many imaginary nodes in one process: real kubelets on simulated runtimes, for scale tests of a control plane.

use crate::config::Config;
use crate::kubelet::machine::Machine;
use crate::kubelet::pods::Workers;
use crate::kubelet::probes::ProbeCounts;
use crate::kubelet::simulated_runtime::SimulatedRuntime;
use crate::kubelet::{Kubelet, Parts};
use crate::node;
use futures_util::StreamExt;
use futures_util::stream;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Nodes that register at once.
const PARALLEL_STARTS: usize = 16;
/// What each node says it has.
const PROCESSORS: u64 = 32;
const MEMORY: u64 = 256 << 30;
const DISK: u64 = 1 << 40;

/// Runs `count` nodes named after this one until `shutdown` is cancelled.
pub async fn run(
    config: Arc<Config>,
    client: kube::Client,
    count: usize,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let stem = match &config.node_name {
        Some(name) => name.clone(),
        None => node::host_name()?,
    };
    let real = Machine::detect(&config.data_dir);
    let machine = Machine { processors: PROCESSORS, memory: MEMORY, disk: DISK, apparmor: true, ..real };
    let starts = stream::iter(0..count).map(|index| {
        let runtime = Arc::new(SimulatedRuntime::default());
        Kubelet::start(Parts {
            config: config.clone(),
            node_name: format!("{stem}-{index}"),
            client: Some(client.clone()),
            runtime: runtime.clone(),
            images: runtime,
            machine: machine.clone(),
            port: config.kubelet.listen.port(),
            workers: Workers::default(),
            imaginary: true,
            probe_counts: ProbeCounts::default(),
            policies: None,
        })
    });
    let started: Vec<_> = starts.buffer_unordered(PARALLEL_STARTS).collect().await;
    let kubelets = started.into_iter().collect::<anyhow::Result<Vec<Kubelet>>>()?;
    tracing::info!("{count} simulated nodes");
    shutdown.cancelled().await;
    let ends = kubelets.into_iter().map(|kubelet| kubelet.shutdown(false));
    futures_util::future::join_all(ends).await.into_iter().collect()
}
