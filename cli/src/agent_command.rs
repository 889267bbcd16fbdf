//! `knarr agent`: a node alone, in a cluster (by kubeconfig) or on its own (pods from a directory).

use crate::args::Agent;
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{output, up};
use anyhow::{Context, bail};
use knarr_agent::node::{Cluster, Node};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(settings: Settings, arguments: Agent) -> anyhow::Result<()> {
    if arguments.server.is_some() {
        bail!("--server and --token: joining by a bootstrap token is not supported yet; use --kubeconfig");
    }
    let mut settings = settings.with_node_options(&arguments.node);
    settings.node.kubelet.manifests = arguments.manifests.clone().or(settings.node.kubelet.manifests);
    let cluster = match &arguments.kubeconfig {
        Some(file) => Some(cluster(file).await?),
        None => None,
    };
    if let Some(count) = arguments.simulate {
        return simulate(settings, cluster, count).await;
    }
    if cluster.is_none() && settings.node.kubelet.manifests.is_none() {
        bail!("nothing to run: give --kubeconfig FILE, --manifests DIR or both");
    }
    let instance = Instance::acquire(&settings.node.state_dir)?;
    serve(settings, cluster, arguments.stop_pods).await?;
    drop(instance);
    Ok(())
}

async fn serve(settings: Settings, cluster: Option<Cluster>, stop_pods: bool) -> anyhow::Result<()> {
    let stop = up::stop_signal()?;
    let node = Node::start(Arc::new(settings.node), cluster).await.context("start the node")?;
    tokio::pin!(stop);
    tokio::select! {
        ready = node.ready() => {
            ready?;
            output::line(&format!("knarr agent is ready: node {}", node.name()));
            stop.await;
        }
        () = &mut stop => {}
    }
    node.shutdown(stop_pods).await.context("stop the node")
}

async fn simulate(settings: Settings, cluster: Option<Cluster>, count: u32) -> anyhow::Result<()> {
    let cluster = cluster.context("--simulate needs --kubeconfig FILE")?;
    let stop = up::stop_signal()?;
    let shutdown = CancellationToken::new();
    let nodes =
        knarr_agent::node::simulate(Arc::new(settings.node), cluster, count as usize, shutdown.clone());
    tokio::pin!(nodes);
    tokio::select! {
        ended = &mut nodes => return ended,
        () = stop => shutdown.cancel(),
    }
    nodes.await
}

/// The cluster that a kubeconfig's current context names; its CA is also who signs callers of the kubelet API.
async fn cluster(file: &Path) -> anyhow::Result<Cluster> {
    let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("{}", file.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client_ca_pem = config.root_cert.as_ref().map(|certificates| pem(certificates));
    Ok(Cluster { client: kube::Client::try_from(config)?, client_ca_pem })
}

fn pem(certificates: &[Vec<u8>]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let block = |der: &Vec<u8>| {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    certificates.iter().map(block).collect()
}
