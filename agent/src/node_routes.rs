//! Routes to the pods of other nodes: each node's range of pod addresses lies behind that node's own address, so nodes
//! that share a link need no overlay and no plugin to form one pod network.
//!
//! What the kernel should have is computed from all Node objects (pure); what it has is asked of it, by the mark that
//! our routes bear, so that a start after a crash leaves no route of a node that went. Node objects are the word of
//! nodes: a range counts only inside the cluster's own and outside this node's, and the oldest node that claims it has
//! it. The routes stay when the agent stops, because its pods do.

use crate::config::Config;
use crate::engine::network::cidr::Cidr;
use crate::engine::network::netlink::Netlink;
use anyhow::Context;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The mark of our routes (`proto 75` in `ip route`).
const MARK: RouteProtocol = RouteProtocol::Other(75);
/// How often we look whether somebody took our routes away.
const INSPECTION: Duration = Duration::from_secs(60);

/// Ranges of pods, and the nodes behind which they are.
type Routes = BTreeMap<Cidr, Ipv4Addr>;

/// With a network plugin, routes are the plugin's business.
pub(crate) fn wanted(config: &Config) -> bool {
    config.network.node_routes && config.network.cni_conf_dir.is_none()
}

/// Takes back every route of ours. Blocks.
pub(crate) fn remove(config: &Config) -> anyhow::Result<()> {
    if !wanted(config) {
        return Ok(());
    }
    write(&Routes::new(), Cidr::parse(&config.network.cluster_cidr).context("network.cluster_cidr")?)
}

/// Keeps the routes true until `shutdown`.
pub(crate) async fn run(
    client: Client,
    config: Arc<Config>,
    own: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let cluster = Cidr::parse(&config.network.cluster_cidr).context("network.cluster_cidr")?;
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
        let (mut told, mut complaint) = (Routes::new(), String::new());
        loop {
            let routes = plan(&nodes.state(), &own, cluster);
            if routes != told {
                tracing::info!(?routes, "routes to the pods of other nodes");
                told.clone_from(&routes);
            }
            let written = tokio::task::spawn_blocking(move || write(&routes, cluster)).await;
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
fn plan(nodes: &[Arc<Node>], own: &str, cluster: Cidr) -> Routes {
    let mut by_age: Vec<&Arc<Node>> = nodes.iter().collect();
    by_age.sort_by_key(|node| (node.metadata.creation_timestamp.clone(), node.metadata.name.clone()));
    let is_own = |node: &Node| node.metadata.name.as_deref() == Some(own);
    let mut taken: Vec<Cidr> =
        nodes.iter().filter(|node| is_own(node)).flat_map(|node| ranges(node)).collect();
    let mut routes = Routes::new();
    for node in by_age.into_iter().filter(|node| !is_own(node)) {
        let Some(address) = address(node) else { continue };
        for range in ranges(node) {
            let inside = cluster.contains(range.network()) && range.prefix() > cluster.prefix();
            if inside && !range.contains(address) && !taken.iter().any(|other| overlap(*other, range)) {
                taken.push(range);
                routes.insert(range, address);
            }
        }
    }
    routes
}

fn overlap(a: Cidr, b: Cidr) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

fn ranges(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    let mut ranges: Vec<Cidr> = listed.filter_map(|text| Cidr::parse(text).ok()).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).next()
}

/// Adds and replaces what is wanted, and removes what bears our mark and is not; goes on after errors. Blocks.
fn write(wanted: &Routes, cluster: Cidr) -> anyhow::Result<()> {
    let mut netlink = Netlink::open().context("open a netlink socket")?;
    let mut errors = Vec::new();
    let present = present(&mut netlink, cluster)?;
    for (range, gateway) in wanted.iter().filter(|(range, gateway)| present.get(*range) != Some(*gateway)) {
        let route = RouteNetlinkMessage::NewRoute(message(*range, *gateway));
        if let Err(error) = netlink.change(route, NLM_F_CREATE | NLM_F_REPLACE) {
            errors.push(match Errno::from_io_error(&error) {
                Some(Errno::NETUNREACH) => {
                    format!("{range}: the node {gateway} is not on a link of this one")
                }
                _ => format!("{range} via {gateway}: {error}"),
            });
        }
    }
    for (range, gateway) in present.iter().filter(|(range, _)| !wanted.contains_key(*range)) {
        let route = RouteNetlinkMessage::DelRoute(message(*range, *gateway));
        match netlink.change(route, 0) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::SRCH) => {
                errors.push(format!("{range}: {error}"));
            }
            _ => {}
        }
    }
    anyhow::ensure!(errors.is_empty(), "routes to the pods of other nodes: {}", errors.join("; "));
    Ok(())
}

fn message(range: Cidr, gateway: Ipv4Addr) -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(range.network(), range.prefix());
    route.gateway(gateway).protocol(MARK).build()
}

/// Our routes as the kernel has them; those of another agent's cluster are not ours.
fn present(netlink: &mut Netlink, cluster: Cidr) -> anyhow::Result<Routes> {
    let mut question = RouteMessageBuilder::<Ipv4Addr>::new().build();
    question.header.address_family = AddressFamily::Inet;
    let answers = netlink.list(RouteNetlinkMessage::GetRoute(question)).context("list routes")?;
    let ours = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) if route.header.protocol == MARK => read(&route),
        _ => None,
    });
    Ok(ours.filter(|(range, _)| cluster.contains(range.network())).collect())
}

fn read(route: &RouteMessage) -> Option<(Cidr, Ipv4Addr)> {
    let address =
        |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| match route.attributes.iter().find_map(wanted)
        {
            Some(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        };
    let network = address(|attribute| match attribute {
        RouteAttribute::Destination(address) => Some(address),
        _ => None,
    })?;
    let gateway = address(|attribute| match attribute {
        RouteAttribute::Gateway(address) => Some(address),
        _ => None,
    })?;
    let range = Cidr::parse(&format!("{network}/{}", route.header.destination_prefix_length)).ok()?;
    Some((range, gateway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, age: u32, range: &str, address: &str) -> Arc<Node> {
        let value = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z")},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
            "status": {"addresses": [{"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": address}]}});
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
        assert_eq!(routes, Routes::from(expected));
        assert_eq!(plan(&[], "own", Cidr::parse("10.42.0.0/16").unwrap()), Routes::new());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (range, gateway) = (Cidr::parse("10.42.1.0/24").unwrap(), Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(read(&message(range, gateway)), Some((range, gateway)));
    }
}
