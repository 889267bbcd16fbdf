//! `knarr up`: a control plane and a node agent in one process, in the order store, API server, controllers, node.
//!
//! Pods do not belong to this process: it may be stopped, killed or upgraded, and they go on; the next `knarr up`
//! finds them. Only `--stop-pods` (or `knarr down`) ends them.

use crate::args::{ControlPlane as Options, Up};
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{apply, output, service_manager};
use anyhow::Context;
use knarr_agent::node::{Cluster, Node};
use knarr_control::{AuditOptions, ControlPlane, EtcdTls, Rotation};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(settings: Settings, arguments: Up) -> anyhow::Result<()> {
    let begin = Instant::now();
    let settings = settings.with_node_options(&arguments.node);
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let stop = stop_signal()?;
    let control_plane = start_control_plane(&settings, &arguments.control_plane, Default::default()).await?;
    let node = match start_node(&settings, &control_plane).await {
        Ok(node) => node,
        Err(error) => {
            let stopped = control_plane.shutdown().await;
            return Err(stopped.err().map_or(error, |also| anyhow::anyhow!("{also:#}")));
        }
    };
    let served = serve(&settings, &arguments, &control_plane, &node, begin, stop).await;
    let node_stopped = node.shutdown(arguments.stop_pods).await.context("stop the node");
    let control_stopped = control_plane.shutdown().await.context("stop the control plane");
    drop(instance);
    served.and(node_stopped).and(control_stopped)
}

/// Says that all is ready, applies the manifests, waits for the end.
async fn serve(
    settings: &Settings,
    arguments: &Up,
    control_plane: &ControlPlane,
    node: &Node,
    begin: Instant,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::pin!(stop);
    tokio::select! {
        ready = node.ready() => ready?,
        () = &mut stop => return Ok(()),
    }
    output::line(&format!(
        "knarr is ready in {:.2} s: node {}, kubeconfig {}",
        begin.elapsed().as_secs_f64(),
        node.name(),
        settings.admin_kubeconfig().display()
    ));
    service_manager::ready();
    let client = control_plane.client();
    let applied = match &arguments.apply {
        Some(directory) => Some(apply::apply(&client, directory).await?),
        None => None,
    };
    stop.await;
    match applied {
        Some(applied) if arguments.stop_pods => apply::delete(applied).await,
        _ => Ok(()),
    }
}

/// Starts the control plane of this machine.
pub(crate) async fn start_control_plane(
    settings: &Settings,
    options: &Options,
    (etcd, etcd_tls): (Vec<String>, EtcdTls),
) -> anyhow::Result<ControlPlane> {
    ControlPlane::start(knarr_control::Options {
        data_dir: settings.node.data_dir.clone(),
        listen: options.listen,
        advertise: options.advertise,
        etcd,
        etcd_tls,
        audit: audit(&options.audit),
        service_cidr: settings.node.network.service_cidrs(),
        cluster_cidr: settings.node.network.cluster_cidrs(),
        ..knarr_control::Options::default()
    })
    .await
    .with_context(|| format!("start the control plane on {}", options.listen))
}

fn audit(options: &crate::args::Audit) -> Option<AuditOptions> {
    let (policy, path) = (options.audit_policy_file.clone()?, options.audit_log_path.clone()?);
    let rotation = Rotation {
        max_size: options.audit_log_maxsize,
        max_backups: options.audit_log_maxbackup,
        max_age: options.audit_log_maxage.into(),
    };
    Some(AuditOptions { policy, path, rotation })
}

async fn start_node(settings: &Settings, control_plane: &ControlPlane) -> anyhow::Result<Node> {
    let name = settings.node.node_name.clone().map_or_else(knarr_agent::node::host_name, Ok)?;
    let cluster = Cluster {
        client: control_plane.client_for_node(&name),
        client_ca_pem: Some(control_plane.ca_pem().to_owned()),
    };
    Node::start(Arc::new(settings.node.clone()), Some(cluster)).await.context("start the node")
}

/// Resolves at the first SIGTERM, SIGINT or SIGHUP (a closed terminal) from now on.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
