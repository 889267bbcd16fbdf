//! The bridge that all stand-alone containers share: its own link, range and table, apart from the pods'.

use crate::settings::Settings;
use async_trait::async_trait;
use knarr_agent::config::Config;
use knarr_agent::engine::network::bridge::BridgeNetwork;
use knarr_agent::engine::network::{PodAttachment, PodNetwork};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The bridge as one container's engine may use it: that engine knows only its own container, so what looks like
/// garbage to it are its neighbours.
struct Shared(Arc<BridgeNetwork>);

#[async_trait]
impl PodNetwork for Shared {
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        self.0.setup(pod).await
    }

    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()> {
        self.0.teardown(sandbox_id).await
    }

    async fn collect_garbage(&self, _living: &BTreeSet<String>) -> anyhow::Result<()> {
        Ok(())
    }

    async fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()> {
        self.0.set_pod_cidr(pod_cidr).await
    }

    async fn ready(&self) -> Result<(), String> {
        self.0.ready().await
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        self.0.remove_all().await
    }
}

/// The network of stand-alone containers, as the engine with this configuration sees it.
pub(super) fn shared(settings: &Settings, engine: &Config) -> anyhow::Result<Arc<dyn PodNetwork>> {
    let config = Config { data_dir: engine.data_dir.clone(), ..config(settings) };
    Ok(Arc::new(Shared(BridgeNetwork::new(Arc::new(config))?)))
}

/// Removes the bridge and its table.
pub(super) async fn remove(settings: &Settings) -> anyhow::Result<()> {
    BridgeNetwork::new(Arc::new(config(settings)))?.remove_all().await
}

fn config(settings: &Settings) -> Config {
    let mut config = settings.node.clone();
    config.network = config.run_network.clone();
    config.network.dir = Some(settings.node.data_dir.join("run-network"));
    config
}
