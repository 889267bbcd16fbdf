//! `knarr agent`: a node alone, in a cluster (by kubeconfig, or joined by a bootstrap token) or on its own (pods from
//! a directory).

use crate::args::Agent;
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{output, up};
use anyhow::{Context, bail};
use knarr_agent::config::KubeletConfig;
use knarr_agent::membership::{self, Invitation, Membership};
use knarr_agent::node::{Cluster, Node};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(settings: Settings, arguments: Agent) -> anyhow::Result<()> {
    let mut settings = settings.with_node_options(&arguments.node);
    apply(&arguments, &mut settings.node.kubelet);
    let joined = membership::kubeconfig(&settings.node.data_dir);
    if let Some(count) = arguments.simulate {
        let file = arguments.kubeconfig.as_deref().context("--simulate needs --kubeconfig FILE")?;
        return simulate(settings, cluster(file).await?, count).await;
    }
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let cluster = match (&arguments.kubeconfig, invitation(&arguments)) {
        (Some(file), _) => Some(cluster(file).await?),
        (None, invitation) if invitation.is_some() || joined.exists() => {
            match member(&settings, &joined, invitation.as_ref()).await? {
                Some(cluster) => Some(cluster),
                None => return Ok(()),
            }
        }
        (None, _) => None,
    };
    if cluster.is_none() && !has_local_source(&settings) {
        bail!(
            "nothing to run: give --server URL and --token TOKEN, --kubeconfig FILE, --manifests DIR or --manifest-url URL"
        );
    }
    serve(settings, cluster, arguments.stop_pods).await?;
    drop(instance);
    Ok(())
}

/// The command line counts before the file.
fn apply(arguments: &Agent, kubelet: &mut KubeletConfig) {
    kubelet.manifests = arguments.manifests.clone().or(kubelet.manifests.take());
    if arguments.manifest_url.is_some() {
        kubelet.manifest_url.clone_from(&arguments.manifest_url);
        kubelet.manifest_url_headers.clone_from(&arguments.manifest_url_header);
    }
    if let Some(seconds) = arguments.shutdown_grace_period {
        kubelet.shutdown_grace_period_seconds = seconds;
        let critical = arguments.shutdown_grace_period_critical_pods;
        kubelet.shutdown_grace_period_critical_pods_seconds = critical.unwrap_or(0);
    }
}

fn has_local_source(settings: &Settings) -> bool {
    settings.node.kubelet.manifests.is_some() || settings.node.kubelet.manifest_url.is_some()
}

fn invitation(arguments: &Agent) -> Option<Invitation> {
    let (server, token) = (arguments.server.clone()?, arguments.token.clone()?);
    Some(Invitation {
        server: server.trim_end_matches('/').to_owned(),
        token,
        pin: arguments.ca_hash.clone(),
    })
}

/// The cluster that this node is or becomes a member of; `None` when it is told to stop meanwhile. Its certificate
/// is renewed for as long as the process lives.
async fn member(
    settings: &Settings,
    file: &Path,
    invitation: Option<&Invitation>,
) -> anyhow::Result<Option<Cluster>> {
    let name = settings.node.node_name.clone().map_or_else(knarr_agent::node::host_name, Ok)?;
    let stop = up::stop_signal()?;
    tokio::select! {
        membership = Membership::begin(file, &name, invitation) => {
            let membership = membership?;
            let cluster = membership.cluster();
            tokio::spawn(membership.keep());
            Ok(Some(cluster))
        }
        () = stop => Ok(None),
    }
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

async fn simulate(settings: Settings, cluster: Cluster, count: u32) -> anyhow::Result<()> {
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
