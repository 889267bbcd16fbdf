//! Services: the addresses that stand for a set of pods, made by nftables (the job of kube-proxy).
//!
//! Everything is computed from the whole cluster's Services and EndpointSlices (`ports`, `table`: pure) and committed
//! as the difference to what the kernel has: one changed service costs one small transaction, however many there
//! are. A new connection finds its service by one look-up in a map and its endpoint in turn; conntrack carries it
//! from there, so a restart or an update disturbs no flow. On a start the first commit replaces the table as a whole,
//! which also ends the chains of services that went away while we did not run. The table stays when we stop.
//! UDP flows are the exception (`flows`): those that lead to an endpoint that is gone are forgotten. Load balancers ask
//! here which nodes have endpoints (`health`).

mod flows;
mod health;
mod ports;
mod table;

use crate::config::{Config, NetworkConfig};
use crate::conntrack::{self, Ways};
use crate::engine::network::cidr::Cidr;
use crate::engine::network::pod_range::Cidr6;
use crate::nft::Table;
use crate::service_watch::ServiceWatch;
use anyhow::Context;
use health::HealthServer;
pub(crate) use ports::{SERVICE_NAME, is_ready};
use std::sync::Arc;
use std::time::Duration;
use table::{Frame, Ranges};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How soon a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often we look whether somebody flushed our table.
const INSPECTION: Duration = Duration::from_secs(60);

/// Keeps the kernel's service table equal to the cluster's Services and EndpointSlices until `shutdown`.
pub async fn run(
    client: kube::Client,
    config: Arc<Config>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let frame = frame(&config.network)?;
    let node = node_name(&config);
    let (watch, feed) = ServiceWatch::new(client);
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = feed => Ok(()),
        result = follow(watch, &frame, &node) => result,
    }
}

fn frame(network: &NetworkConfig) -> anyhow::Result<Frame> {
    let four = Ranges {
        cluster: Some(Cidr::parse(&network.cluster_cidr).context("network.cluster_cidr")?.to_string()),
        services: Some(Cidr::parse(&network.service_cidr).context("network.service_cidr")?.to_string()),
    };
    let second = |key: &str, text: Option<String>| {
        let range = text.as_deref().map(Cidr6::parse).transpose();
        range.map(|range| range.map(|range| range.to_string())).with_context(|| format!("network.{key}"))
    };
    let six = Ranges {
        cluster: second("cluster_cidr_v6", network.second_cluster())?,
        services: second("service_cidr_v6", network.service_cidr_v6.clone())?,
    };
    Ok(Frame { table: network.services_table(), four, six })
}

/// The name under which this node's endpoints are listed.
fn node_name(config: &Config) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    config.node_name.clone().unwrap_or_else(host)
}

/// What the kernel was told.
#[derive(Debug)]
struct State {
    table: Table,
    ways: Ways,
}

async fn follow(mut watch: ServiceWatch, frame: &Frame, node: &str) -> anyhow::Result<()> {
    watch.complete().await?;
    let mut kernel: Option<State> = None;
    let mut health = HealthServer::default();
    loop {
        let (services, slices) = (watch.services.state(), watch.slices.state());
        let ports = ports::ports(&services, &slices, node);
        let wanted = State { table: table::table(frame, &ports), ways: flows::ways(&ports) };
        let old = kernel.take();
        let commit = move || commit(old, wanted);
        let pause = match spawn_blocking(commit).await.context("the thread that runs nft panicked")? {
            Ok(state) => {
                kernel = Some(state);
                INSPECTION
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "services not written; trying again");
                RETRY
            }
        };
        health.follow(health::checks(&services, &slices, node), kernel.is_some()).await;
        drop((services, slices));
        match timeout(pause, watch.changed()).await {
            Ok(changed) => changed?,
            Err(_) => kernel = still_there(kernel).await,
        }
    }
}

/// Brings the kernel to what is wanted, and then ends what the old rules began and the new ones would not. Blocks.
fn commit(kernel: Option<State>, wanted: State) -> anyhow::Result<State> {
    let was_right = wanted.table.commit(kernel.as_ref().map(|kernel| &kernel.table))?;
    // Flows that came about while our rules were away may lead anywhere.
    let old = kernel.filter(|_| was_right).map(|old| old.ways).unwrap_or_default();
    match conntrack::forget_stale(&wanted.ways.changed_since(&old)) {
        Ok(_) => Ok(wanted),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "flows to endpoints that are gone not ended");
            // The next time, everything is looked at.
            Ok(State { ways: Ways::default(), ..wanted })
        }
    }
}

/// Forgets a table that is gone (`nft flush ruleset`), so that it is written anew.
async fn still_there(kernel: Option<State>) -> Option<State> {
    let kernel = kernel?;
    spawn_blocking(move || kernel.table.is_there().then_some(kernel)).await.unwrap_or(None)
}

#[cfg(test)]
mod tests;
