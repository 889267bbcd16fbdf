//! Services: the addresses that stand for a set of pods, made by nftables (the job of kube-proxy).
//!
//! Everything is computed from the whole cluster's Services and EndpointSlices (`ports`, `table`: pure) and committed
//! as the difference to what the kernel has: one changed service costs one small transaction, however many there
//! are. A new connection finds its service by one look-up in a map and its endpoint in turn; conntrack carries it
//! from there, so a restart or an update disturbs no flow. On a start the first commit replaces the table as a whole,
//! which also ends the chains of services that went away while we did not run. The table stays when we stop.
//! UDP flows are the exception (`flows`): those that lead to an endpoint that is gone are forgotten. Load balancers ask
//! here which nodes have endpoints (`health`), and whether a node is to be sent anything at all (`proxy_health`).

mod flows;
mod health;
mod http_answers;
mod nearness;
mod ports;
mod proxy_health;
mod source_ranges;
mod table;

use crate::config::Config;
use crate::conntrack::{self, Ways};
use crate::engine::network::cidr::Cidr;
use crate::engine::network::pod_range::Cidr6;
use crate::kubelet::machine;
use crate::nft::Table;
use crate::service_watch::ServiceWatch;
use anyhow::Context;
use health::HealthServer;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use nearness::Place;
pub(crate) use ports::{SERVICE_NAME, is_ready};
use proxy_health::Health;
use std::sync::Arc;
use std::time::Duration;
use table::{Frame, Ranges};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How soon a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often we look whether somebody flushed our table.
const INSPECTION: Duration = Duration::from_secs(60);

/// The node that this is.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) name: String,
    /// Its object, once it was seen.
    pub(crate) object: watch::Receiver<Option<Arc<Node>>>,
}

/// Keeps the kernel's service table equal to the cluster's Services and EndpointSlices until `shutdown`.
pub(crate) async fn run(
    client: kube::Client,
    config: Arc<Config>,
    own: Own,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let frame = frame(&config)?;
    let (watch, feed) = ServiceWatch::new(client);
    let (health, told) = watch::channel(Health::default());
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = feed => Ok(()),
        () = proxy_health::serve(config.network.proxy_healthz_listen, told) => Ok(()),
        result = follow(watch, &frame, own, health) => result,
    }
}

fn frame(config: &Config) -> anyhow::Result<Frame> {
    let network = &config.network;
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
    Ok(Frame { table: network.services_table(), node: machine::addresses(config), four, six })
}

/// What the kernel was told.
#[derive(Debug)]
struct State {
    table: Table,
    ways: Ways,
}

async fn follow(
    mut watch: ServiceWatch,
    frame: &Frame,
    mut own: Own,
    proxy_health: watch::Sender<Health>,
) -> anyhow::Result<()> {
    watch.complete().await?;
    let mut kernel: Option<State> = None;
    let mut health = HealthServer::default();
    loop {
        let place = own.place();
        let (services, slices) = (watch.services.state(), watch.slices.state());
        let ports = ports::ports(&services, &slices, &place);
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
        proxy_health.send_modify(|health| health.committed(kernel.is_some(), Timestamp::now()));
        health.follow(health::checks(&services, &slices, &place.node), kernel.is_some()).await;
        drop((services, slices));
        let news = async {
            tokio::select! {
                changed = watch.changed() => changed,
                () = own.moved(&place, &proxy_health) => Ok(()),
            }
        };
        match timeout(pause, news).await {
            Ok(changed) => changed?,
            Err(_) => kernel = still_there(kernel).await,
        }
    }
}

impl Own {
    fn place(&self) -> Place {
        Place::of(&self.name, self.object.borrow().as_deref())
    }

    /// Resolves when the node is in another place than it was. Nothing else that its object says, every few seconds,
    /// changes the rules.
    async fn moved(&mut self, place: &Place, health: &watch::Sender<Health>) {
        loop {
            let object = self.object.borrow_and_update().clone();
            health.send_modify(|health| health.follow(object.as_deref()));
            if self.place() != *place {
                return;
            }
            if self.object.changed().await.is_err() {
                // It is not followed any more, as on a node on its own.
                return std::future::pending().await;
            }
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
