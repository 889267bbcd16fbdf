//! What connects a stand-alone container: the bridge that all share who ask for no other, with its own link, range and
//! table, apart from the pods'; or a network that somebody made (`networks/record`).

use super::networks::names::Names;
use super::networks::record::{self, Membership, Record};
use super::places::Place;
use crate::settings::Settings;
use async_trait::async_trait;
use knarr_agent::config::Config;
use knarr_agent::engine::network::bridge::BridgeNetwork;
use knarr_agent::engine::network::{PodAttachment, PodNetwork};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// The bridge as one container's engine may use it: that engine knows only its own container, so what looks like
/// garbage to it are its neighbours.
struct Shared {
    bridge: Arc<BridgeNetwork>,
    /// The container's own place, and who else is on its network; none where names are not known.
    names: Option<(Place, Names)>,
}

impl Shared {
    async fn forget(&self) -> anyhow::Result<()> {
        match &self.names {
            Some((place, names)) => names.remove(&place.directory).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl PodNetwork for Shared {
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        let addresses = self.bridge.setup(pod).await?;
        if let Some((place, names)) = &self.names {
            // It may have another name than it was made with.
            names.add(&place.directory, &place.name, &addresses).await?;
        }
        Ok(addresses)
    }

    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()> {
        self.forget().await?;
        self.bridge.teardown(sandbox_id).await
    }

    async fn release(&self, sandbox_id: &str) -> anyhow::Result<()> {
        self.forget().await?;
        self.bridge.release(sandbox_id).await
    }

    async fn collect_garbage(&self, _living: &BTreeSet<String>) -> anyhow::Result<()> {
        Ok(())
    }

    async fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()> {
        self.bridge.set_pod_cidr(pod_cidr).await
    }

    async fn ready(&self) -> Result<(), String> {
        self.bridge.ready().await
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        self.bridge.remove_all().await
    }
}

/// The network of the container in this place, as the engine with this configuration sees it.
pub(super) fn of(settings: &Settings, place: &Place, engine: &Config) -> anyhow::Result<Arc<dyn PodNetwork>> {
    let data_dir = engine.data_dir.clone();
    let Some((record, membership)) = own(&data_dir, settings)? else {
        let config = Config { data_dir, ..config(settings) };
        return Ok(Arc::new(Shared { bridge: BridgeNetwork::new(Arc::new(config))?, names: None }));
    };
    let config = Config { data_dir, ..record.config(settings) };
    let bridge = BridgeNetwork::apart(&config, record.apart(settings, membership.address))?;
    let names = Names::new(settings, &record, &membership);
    Ok(Arc::new(Shared { bridge, names: Some((place.clone(), names)) }))
}

/// The network that somebody made, where the container in this directory has one. It may be gone: then the container can
/// be looked at and removed, and `expect` tells whoever wants to start it.
fn own(data_dir: &Path, settings: &Settings) -> anyhow::Result<Option<(Record, Membership)>> {
    let Some(membership) = record::of_container(data_dir)? else { return Ok(None) };
    Ok(record::find(settings, &membership.network)?.map(|record| (record, membership)))
}

/// Fails where the container's network is gone.
pub(super) fn expect(settings: &Settings, data_dir: &Path) -> anyhow::Result<()> {
    match record::of_container(data_dir)? {
        Some(membership) => record::expect(settings, &membership.network).map(drop),
        None => Ok(()),
    }
}

/// The names that the container in this place hears of; none where it shares the bridge of all.
pub(super) fn names(settings: &Settings, data_dir: &Path) -> anyhow::Result<Option<Names>> {
    let own = own(data_dir, settings)?;
    Ok(own.map(|(record, membership)| Names::new(settings, &record, &membership)))
}

/// Removes one network that somebody made: its bridge and its table.
pub(super) async fn take_apart(settings: &Settings, record: &Record) -> anyhow::Result<()> {
    BridgeNetwork::apart(&record.config(settings), record.apart(settings, None))?.remove_all().await
}

/// Removes all bridges and their tables. What is written down of networks stays.
pub(super) async fn remove(settings: &Settings) -> anyhow::Result<()> {
    for record in record::all(settings)? {
        take_apart(settings, &record).await?;
    }
    BridgeNetwork::new(Arc::new(config(settings)))?.remove_all().await
}

fn config(settings: &Settings) -> Config {
    let mut config = settings.node.clone();
    config.network = config.run_network.clone();
    config.network.dir = Some(settings.node.data_dir.join("run-network"));
    config
}
