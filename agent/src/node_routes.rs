//! Routes to the pods of other nodes: each node's range of pod addresses lies behind that node's own address, so nodes
//! that share a link need no overlay and no plugin to form one pod network.
//!
//! What the kernel should have is computed from all Node objects (pure); what it has is asked of it, by the mark that
//! our routes bear, so that a start after a crash leaves no route of a node that went. Node objects are the word of
//! nodes: a range counts only inside the cluster's own and outside this node's, and the oldest node that claims it has
//! it. The routes stay when the agent stops, because its pods do. Each family has its own ranges, behind the address of
//! that family by which a node is reached.

mod family;
mod kernel;

use crate::config::Config;
use crate::engine::network::cidr::Cidr;
use crate::engine::network::pod_range::Cidr6;
use anyhow::Context;
use family::Range;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often we look whether somebody took our routes away.
const INSPECTION: Duration = Duration::from_secs(60);

/// Ranges of pods, and the nodes behind which they are.
type Routes<R> = BTreeMap<R, <R as Range>::Address>;

/// The cluster's ranges of pods.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    first: Cidr,
    second: Option<Cidr6>,
}

/// The routes of both families.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Both {
    first: Routes<Cidr>,
    second: Routes<Cidr6>,
}

impl Cluster {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let network = &config.network;
        let first = Cidr::parse(&network.cluster_cidr).context("network.cluster_cidr")?;
        let second = network.second_cluster().as_deref().map(Cidr6::parse).transpose();
        Ok(Self { first, second: second.context("network.cluster_cidr_v6")? })
    }

    fn plan(self, nodes: &[Arc<Node>], own: &str) -> Both {
        let second = self.second.map(|range| plan(nodes, own, range)).unwrap_or_default();
        Both { first: plan(nodes, own, self.first), second }
    }

    /// Makes the kernel's routes these; goes on after errors. Blocks.
    fn write(self, wanted: &Both) -> anyhow::Result<()> {
        let first = kernel::write(&wanted.first, self.first);
        let second = self.second.map_or(Ok(()), |range| kernel::write(&wanted.second, range));
        first.and(second)
    }
}

/// With a network plugin, routes are the plugin's business.
pub(crate) fn wanted(config: &Config) -> bool {
    config.network.node_routes && config.network.cni_conf_dir.is_none()
}

/// Takes back every route of ours. Blocks.
pub(crate) fn remove(config: &Config) -> anyhow::Result<()> {
    if !wanted(config) {
        return Ok(());
    }
    Cluster::of(config)?.write(&Both::default())
}

/// Keeps the routes true until `shutdown`.
pub(crate) async fn run(
    client: Client,
    config: Arc<Config>,
    own: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let cluster = Cluster::of(&config)?;
    let (nodes, writer) = store::<Node>();
    let (notify, mut changed) = watch::channel(());
    let events =
        watcher(Api::<Node>::all(client), watcher::Config::default()).default_backoff().modify(|node| {
            // What nodes say of themselves every few seconds is most of their objects, and nothing of it is read here.
            node.metadata.managed_fields = None;
            if let Some(status) = &mut node.status {
                status.images = None;
                status.conditions = None;
            }
        });
    let feed = async {
        let mut events = std::pin::pin!(reflector(writer, events));
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => notify.send_replace(()),
                Err(error) if is_forbidden(&error) => {
                    tracing::info!(
                        "this node may not see others: routes to their pods are left to whoever can"
                    );
                    return;
                }
                Err(error) => tracing::warn!("watch of nodes: {error}"),
            }
        }
    };
    let keep = async {
        nodes.wait_until_ready().await.context("the watch of nodes ended")?;
        let (mut told, mut complaint) = (Both::default(), String::new());
        loop {
            let routes = cluster.plan(&nodes.state(), &own);
            if routes != told {
                tracing::info!(?routes, "routes to the pods of other nodes");
                told.clone_from(&routes);
            }
            let written = tokio::task::spawn_blocking(move || cluster.write(&routes)).await;
            if let Err(error) = written.context("the thread that sets routes panicked")? {
                let text = format!("{error:#}");
                if text != complaint {
                    tracing::warn!("{text}");
                    complaint = text;
                }
            }
            // Nothing new is as good a reason to look as something new.
            let _ = tokio::time::timeout(INSPECTION, changed.changed()).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = feed => { shutdown.cancelled().await; Ok(()) }
        ended = keep => ended,
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return false };
    status.code == 403
}

/// Which range lies behind which node.
fn plan<R: Range>(nodes: &[Arc<Node>], own: &str, cluster: R) -> Routes<R> {
    let mut by_age: Vec<&Arc<Node>> = nodes.iter().collect();
    by_age.sort_by_key(|node| (node.metadata.creation_timestamp.clone(), node.metadata.name.clone()));
    let is_own = |node: &Node| node.metadata.name.as_deref() == Some(own);
    let mut taken: Vec<R> = nodes.iter().filter(|node| is_own(node)).flat_map(|node| ranges(node)).collect();
    let mut routes = Routes::<R>::new();
    for node in by_age.into_iter().filter(|node| !is_own(node)) {
        let Some(address) = address::<R>(node) else { continue };
        for range in ranges::<R>(node) {
            let inside = cluster.covers(range.network()) && range.length() > cluster.length();
            if inside && !range.covers(address) && !taken.iter().any(|other| overlap(*other, range)) {
                taken.push(range);
                routes.insert(range, address);
            }
        }
    }
    routes
}

fn overlap<R: Range>(a: R, b: R) -> bool {
    a.covers(b.network()) || b.covers(a.network())
}

fn ranges<R: Range>(node: &Node) -> Vec<R> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    let mut ranges: Vec<R> = listed.filter_map(|text| R::read(text)).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn address<R: Range>(node: &Node) -> Option<R::Address> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn node(name: &str, age: u32, range: &str, address: &str) -> Arc<Node> {
        let (ranges, addresses): (Vec<&str>, Vec<&str>) =
            (range.split(',').collect(), address.split(',').collect());
        let mut told = vec![json!({"type": "Hostname", "address": name})];
        told.extend(addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})));
        let value = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z")},
            "spec": {"podCIDR": ranges[0], "podCIDRs": ranges}, "status": {"addresses": told}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn every_other_node_has_its_range_and_nobody_anothers() {
        let nodes = [
            node("own", 9, "10.42.0.0/24", "192.0.2.1"),
            node("b", 2, "10.42.1.0/24", "192.0.2.2"),
            node("c", 3, "10.42.2.0/24", "192.0.2.3"),
            node("thief", 4, "10.42.1.0/25", "192.0.2.4"),
            node("greedy", 1, "10.42.0.0/16", "192.0.2.5"),
            node("mine", 1, "10.42.0.128/25", "192.0.2.6"),
            node("elsewhere", 1, "192.168.0.0/24", "192.0.2.7"),
            node("inside", 1, "10.42.9.0/24", "10.42.9.1"),
            node("six", 1, "fd00::/64", "192.0.2.8"),
        ];
        let routes = plan(&nodes, "own", Cidr::parse("10.42.0.0/16").unwrap());
        let expected = [("10.42.1.0/24", [192, 0, 2, 2]), ("10.42.2.0/24", [192, 0, 2, 3])]
            .map(|(range, address)| (Cidr::parse(range).unwrap(), Ipv4Addr::from(address)));
        assert_eq!(routes, Routes::<Cidr>::from(expected));
        assert_eq!(plan(&[], "own", Cidr::parse("10.42.0.0/16").unwrap()), Routes::<Cidr>::new());
    }

    #[test]
    fn each_family_goes_its_own_way() {
        let nodes = [
            node("own", 1, "10.42.0.0/24,fd00:42::/64", "192.0.2.1,2001:db8::1"),
            node("both", 2, "10.42.1.0/24,fd00:42:0:1::/64", "192.0.2.2,2001:db8::2"),
            node("old", 3, "10.42.2.0/24,fd00:42:0:2::/64", "192.0.2.3"),
            node("thief", 4, "10.42.3.0/24,fd00:42:0:1::/80", "192.0.2.4,2001:db8::4"),
        ];
        let routes = plan(&nodes, "own", Cidr6::parse("fd00:42::/48").unwrap());
        let expected =
            (Cidr6::parse("fd00:42:0:1::/64").unwrap(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(routes, Routes::<Cidr6>::from([expected]));
        assert_eq!(plan(&nodes, "own", Cidr::parse("10.42.0.0/16").unwrap()).len(), 3);
    }
}
