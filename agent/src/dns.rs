//! The cluster's name server: answers for services and pods, forwards the rest to the host's own name servers.
//!
//! `zone` knows every name (computed from Services and EndpointSlices as a whole), `reply` turns a query into an
//! answer (pure), `server` moves datagrams and streams, `upstream` asks others. Until the first complete list of
//! services is here, names of the cluster get SERVFAIL: "no such name" would be remembered.

mod reply;
mod server;
mod upstream;
mod zone;

use crate::config::Config;
use crate::engine::network::cidr::Cidr;
use crate::engine::network::pod_range::Cidr6;
use crate::service_watch::ServiceWatch;
use anyhow::Context;
use server::Server;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use upstream::Upstream;
use zone::{Range, Zone};

/// Where the host's name servers are listed.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Serves DNS over UDP and TCP on every address of `listen` until `shutdown`; an address need not exist yet. Without
/// a client there are no cluster names, only forwarding.
pub async fn run(
    client: Option<kube::Client>,
    listen: Vec<SocketAddr>,
    config: Arc<Config>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let builder = Builder::new(&config)?;
    let own: Vec<IpAddr> = listen.iter().map(SocketAddr::ip).collect();
    let upstream = Upstream::new(Path::new(RESOLV_CONF), own);
    let first = if client.is_some() { None } else { Some(Arc::new(builder.zone(&[], &[]))) };
    let (publish, zone) = watch::channel(first);
    let server = Server::bind(&listen, zone, upstream, &config.kubelet.cluster_domain)?;
    let names = async {
        match client {
            Some(client) => follow(client, &builder, &publish).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        result = server.run() => result,
        result = names => result,
    }
}

/// Computes the zone anew after each change (or several that came meanwhile).
async fn follow(
    client: kube::Client,
    builder: &Builder,
    publish: &watch::Sender<Option<Arc<Zone>>>,
) -> anyhow::Result<()> {
    let (mut watch, feed) = ServiceWatch::new(client);
    let compute = async {
        watch.complete().await?;
        loop {
            let zone = builder.zone(&watch.services.state(), &watch.slices.state());
            publish.send_replace(Some(Arc::new(zone)));
            watch.changed().await?;
        }
    };
    tokio::select! {
        result = compute => result,
        () = feed => Ok(()),
    }
}

/// What zones have in common.
#[derive(Debug)]
struct Builder {
    domain: String,
    /// Reverse names of these ranges are ours alone.
    ranges: Vec<Range>,
}

impl Builder {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let network = &config.network;
        let mut ranges = vec![
            Range::Four(Cidr::parse(&network.service_cidr).context("network.service_cidr")?),
            Range::Four(Cidr::parse(&network.cluster_cidr).context("network.cluster_cidr")?),
        ];
        for (key, range) in
            [("service_cidr_v6", &network.service_cidr_v6), ("cluster_cidr_v6", &network.second_cluster())]
        {
            let range = range.as_deref().map(Cidr6::parse).transpose();
            ranges.extend(range.with_context(|| format!("network.{key}"))?.map(Range::Six));
        }
        Ok(Self { domain: config.kubelet.cluster_domain.trim_matches('.').to_lowercase(), ranges })
    }

    fn zone(
        &self,
        services: &[Arc<k8s_openapi::api::core::v1::Service>],
        slices: &[Arc<k8s_openapi::api::discovery::v1::EndpointSlice>],
    ) -> Zone {
        Zone::new(&self.domain, &self.ranges, services, slices)
    }
}
