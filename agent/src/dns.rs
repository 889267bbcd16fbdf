//! The cluster's name server: answers for services and pods, forwards the rest.

use crate::config::Config;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves DNS over UDP and TCP on every address of `listen` until `shutdown`. Without a client there are no
/// cluster names, only forwarding.
pub async fn run(
    _client: Option<kube::Client>,
    _listen: Vec<SocketAddr>,
    _config: Arc<Config>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
