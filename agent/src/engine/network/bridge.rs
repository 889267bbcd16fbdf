//! The built-in pod network: one bridge, one veth pair per pod, addresses from the node's podCIDR.

use super::{PodAttachment, PodNetwork};
use crate::config::Config;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The built-in network of one node. It holds no state of its own: the files under `DATA_DIR/network` are the truth.
#[derive(Debug)]
pub struct BridgeNetwork {
    config: Arc<Config>,
}

impl BridgeNetwork {
    /// Checks the configuration; the kernel is touched by the first `ready`, `setup` or `collect_garbage`.
    pub fn new(config: Arc<Config>) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { config }))
    }
}

#[async_trait]
impl PodNetwork for BridgeNetwork {
    async fn setup(&self, _pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        anyhow::bail!("pod networks are not supported yet (bridge {})", self.config.network.bridge)
    }

    async fn teardown(&self, _sandbox_id: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn collect_garbage(&self, _living: &BTreeSet<String>) -> anyhow::Result<()> {
        Ok(())
    }

    async fn set_pod_cidr(&self, _pod_cidr: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
