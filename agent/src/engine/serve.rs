//! `knarr engine`: the engine behind a CRI socket, for a foreign kubelet or crictl.

use super::Engine;
use super::monitors::Monitors;
use super::network::PodNetwork;
use crate::config::Config;
use crate::root_socket;
use anyhow::Context;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Serves until `shutdown` resolves, and calls `ready` when clients can come. Pods go on without us.
pub async fn serve(
    config: Arc<Config>,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let images = super::image_store::open(&config)?;
    let network: Arc<dyn PodNetwork> = super::network::open(&config)?;
    let monitors: Arc<dyn Monitors> = Arc::new(super::monitors::UnixMonitors::new(config.clone()));
    let engine = Engine::start(config.clone(), images, network, monitors).await?;
    super::streaming::StreamingServer::join(&engine, config.engine.streaming_listen)?;
    if let Some(address) = config.engine.metrics_listen {
        engine.serve_metrics(address)?;
    }
    let socket = config.cri_socket();
    let listener = root_socket::listen(&socket).await?;
    ready();
    serve_on(engine, listener, &socket, shutdown).await
}

/// Offers a running engine on a socket that only root can reach.
pub async fn serve_engine(
    engine: Arc<Engine>,
    socket: &Path,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    serve_on(engine, root_socket::listen(socket).await?, socket, shutdown).await
}

/// Offers a running engine on a socket that has been taken.
pub async fn serve_on(
    engine: Arc<Engine>,
    listener: UnixListener,
    socket: &Path,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let served = knarr_cri::server::serve(listener, engine.clone(), engine, shutdown).await;
    drop(std::fs::remove_file(socket));
    served.with_context(|| format!("serving {}", socket.display()))
}
