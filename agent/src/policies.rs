//! Network policies: which packets from and to this node's pods go through (the job of a network plugin).
//!
//! As for services, everything is computed from the whole (`policy`, `world`, `table`: pure) and committed as the
//! difference to what the kernel has. The cluster's pods and namespaces are followed only while there are policies:
//! without any there is no table, and a node asks for no pods but its own. A pod that no policy selects is free. The
//! table stays when we stop. Flows that were allowed when they began go on. The kubelet tells of its pods before anything
//! of them runs, and waits until the rules have them (`local_pods`).

mod last_known;
mod local_pods;
mod policy;
mod table;
mod world;

use crate::config::Config;
use crate::informer::{self, Followed};
use crate::link_addresses;
use crate::nft::{self, Table};
use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::Store;
use last_known::LastKnown;
use local_pods::Announced;
pub use local_pods::LocalPods;
pub(crate) use local_pods::PATIENCE;
use policy::Policy;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use world::World;

/// How soon a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often we look whether somebody flushed our table.
const INSPECTION: Duration = Duration::from_secs(60);

/// Whether policies are ours to enforce: CNI plugins bring their own way to do it.
pub(crate) fn wanted(config: &Config) -> bool {
    config.network.cni_conf_dir.is_none()
}

/// What the rules of a node depend on besides the cluster's objects.
#[derive(Debug, Clone)]
struct Place {
    node: String,
    table: String,
    /// Its addresses are those where pods ask for names.
    bridge: String,
}

/// The cluster, and the pods of this node.
#[derive(Clone)]
struct Sources {
    client: kube::Client,
    local: LocalPods,
}

impl Sources {
    fn followed<K>(&self, notify: &watch::Sender<()>, trim: fn(&mut K)) -> Followed<K> {
        let local = self.local.clone();
        Followed {
            client: self.client.clone(),
            notify: notify.clone(),
            trim,
            instead: "a network plugin",
            on_refusal: Box::new(move || local.know_nothing()),
        }
    }
}

/// Keeps the kernel's table of policies equal to the cluster's until `shutdown`.
pub async fn run(
    client: kube::Client,
    config: Arc<Config>,
    node: String,
    local: LocalPods,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let place = Place { node, table: config.network.policies_table(), bridge: config.network.bridge.clone() };
    let (notify, changed) = watch::channel(());
    let directory = config.network_dir();
    let last = spawn_blocking(move || LastKnown::read(&directory)).await.context("reading what was known")?;
    local.remember(last.policies());
    let sources = Sources { client, local };
    let (policies, feed) = informer::follow(sources.followed(&notify, |_: &mut NetworkPolicy| {}));
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = feed => Ok(()),
        result = keep(&sources, &place, &policies, changed, last) => result,
    }
}

/// What can be read of them, in the order of their names.
fn read(policies: &Store<NetworkPolicy>) -> Arc<Vec<Policy>> {
    sorted(&policies.state())
}

fn sorted(policies: &[Arc<NetworkPolicy>]) -> Arc<Vec<Policy>> {
    let mut policies: Vec<Policy> = policies.iter().filter_map(|policy| Policy::new(policy)).collect();
    policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Arc::new(policies)
}

async fn keep(
    sources: &Sources,
    place: &Place,
    policies: &Store<NetworkPolicy>,
    mut changed: watch::Receiver<()>,
    mut last: LastKnown,
) -> anyhow::Result<()> {
    policies.wait_until_ready().await.context("the watch of network policies ended")?;
    loop {
        sources.local.know(&read(policies));
        if policies.is_empty() {
            let table = place.table.clone();
            spawn_blocking(move || remove(&table)).await.context("the thread that runs nft panicked")??;
            last.keep(&policies.state()).await;
            changed.changed().await.context("the watch of network policies ended")?;
        } else {
            enforce(sources, place, policies, &mut changed, &mut last).await?;
        }
    }
}

/// Blocks.
fn remove(table: &str) -> anyhow::Result<()> {
    if nft::exists(table)? { nft::apply(&nft::removal(table)) } else { Ok(()) }
}

/// Returns when there are no policies any more.
async fn enforce(
    sources: &Sources,
    place: &Place,
    policies: &Store<NetworkPolicy>,
    changed: &mut watch::Receiver<()>,
    last: &mut LastKnown,
) -> anyhow::Result<()> {
    let (notify, mut moved) = watch::channel(());
    let (pods, feed_pods) = informer::follow(sources.followed(&notify, trim));
    let (namespaces, feed_namespaces) = informer::follow(sources.followed(&notify, |_: &mut Namespace| {}));
    let (local, mut announced) = (&sources.local, sources.local.news());
    let work = async {
        pods.wait_until_ready().await.context("the watch of pods ended")?;
        namespaces.wait_until_ready().await.context("the watch of namespaces ended")?;
        let mut kernel = None;
        while !policies.is_empty() {
            let known = read(policies);
            local.know(&known);
            let (here, number) = local.announced();
            let world = world(place, &pods.state(), &here, &namespaces.state());
            let pause = commit(&mut kernel, table::table(&place.table, &world, &known)).await?;
            if kernel.is_some() {
                local.mark_covered(number);
            }
            last.keep(&policies.state()).await;
            let news = async {
                tokio::select! {
                    news = changed.changed() => news,
                    news = moved.changed() => news,
                    news = announced.changed() => news,
                }
            };
            match timeout(pause, news).await {
                Ok(news) => news.context("a watch ended")?,
                Err(_) => kernel = still_there(kernel).await,
            }
        }
        Ok(())
    };
    tokio::select! {
        () = feed_pods => Ok(()),
        () = feed_namespaces => Ok(()),
        result = work => result,
    }
}

/// Of a pod only its labels, addresses and ports matter here.
fn trim(pod: &mut Pod) {
    pod.metadata.annotations = None;
    pod.metadata.owner_references = None;
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            let ports = container.ports.take();
            *container = k8s_openapi::api::core::v1::Container { ports, ..Default::default() };
        }
        *spec = k8s_openapi::api::core::v1::PodSpec {
            containers: std::mem::take(&mut spec.containers),
            init_containers: spec.init_containers.take(),
            host_network: spec.host_network,
            node_name: spec.node_name.take(),
            ..Default::default()
        };
    }
    if let Some(status) = &mut pod.status {
        *status = k8s_openapi::api::core::v1::PodStatus {
            phase: status.phase.take(),
            pod_ip: status.pod_ip.take(),
            pod_ips: status.pod_ips.take(),
            ..Default::default()
        };
    }
}

fn world(place: &Place, pods: &[Arc<Pod>], local: &Announced, namespaces: &[Arc<Namespace>]) -> World {
    World::new(pods, local, namespaces, &place.node, &addresses_of(&place.bridge))
}

/// None where there is no such link, or none that can be read: then no rule speaks of them.
fn addresses_of(link: &str) -> Vec<IpAddr> {
    let all = link_addresses::all().unwrap_or_default();
    all.into_iter().filter(|(name, _)| name == link).map(|(_, address)| address).collect()
}

/// Brings the kernel to what is wanted, and says how long nothing needs to be done.
async fn commit(kernel: &mut Option<Table>, wanted: Table) -> anyhow::Result<Duration> {
    let old = kernel.take();
    let work = move || wanted.commit(old.as_ref()).map(|_| wanted);
    match spawn_blocking(work).await.context("the thread that runs nft panicked")? {
        Ok(table) => {
            *kernel = Some(table);
            Ok(INSPECTION)
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "network policies not written; trying again");
            Ok(RETRY)
        }
    }
}

/// Forgets a table that is gone (`nft flush ruleset`), so that it is written anew.
async fn still_there(kernel: Option<Table>) -> Option<Table> {
    let kernel = kernel?;
    spawn_blocking(move || kernel.is_there().then_some(kernel)).await.unwrap_or(None)
}

#[cfg(test)]
mod tests;
