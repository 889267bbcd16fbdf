//! Storage drivers of this node (CSI): a driver's registrar listens in `plugins_registry`, is found there and asked; from
//! then on the driver is told to stage and publish the volumes of pods, and to take them back.
//!
//! What must hold: a volume that was given to a driver is on disk (`vol_data.json`) before the driver hears of it, so it
//! is taken back whatever happens in between; calls about one volume come one after the other; a volume is staged once
//! however many pods use it, and unstaged when the last one has gone. The layout is the kubelet's, for drivers and tools
//! look there.

mod driver;
mod expand;
mod in_use;
mod node_object;
mod places;
mod publish;
mod record;
mod registry;
mod volume;
mod withdraw;

use driver::Driver;
pub use volume::{CsiVolume, describe};

use crate::kubelet::host::CALL_DEADLINE;
use k8s_openapi::api::core::v1::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The directory of drivers' volumes among others.
pub const PLUGIN: &str = "kubernetes.io~csi";

/// How long a driver may take for one call.
const PATIENCE: Duration = CALL_DEADLINE;

/// The drivers of a node.
#[derive(Clone)]
pub struct Csi {
    /// The kubelet's directory.
    root: PathBuf,
    client: Option<kube::Client>,
    node_name: String,
    node: watch::Receiver<Option<Arc<Node>>>,
    /// By driver name; held only for a look-up.
    drivers: Arc<Mutex<BTreeMap<String, Driver>>>,
    /// By volume handle: calls about one volume take turns. Held only for a look-up.
    turns: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    /// The volumes in use that the cluster was told of last; held while it is told.
    told: Arc<tokio::sync::Mutex<Option<BTreeSet<String>>>>,
}

impl std::fmt::Debug for Csi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Csi").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Csi {
    /// Drivers that register under the kubelet's directory `root`; `node` shows the Node object that tells of them.
    pub fn new(
        root: &Path,
        client: Option<kube::Client>,
        node_name: &str,
        node: watch::Receiver<Option<Arc<Node>>>,
    ) -> Csi {
        let (root, node_name) = (root.to_path_buf(), node_name.to_owned());
        Csi {
            root,
            client,
            node_name,
            node,
            drivers: Arc::default(),
            turns: Arc::default(),
            told: Arc::default(),
        }
    }

    /// Finds drivers, and forgets those that go. Never returns.
    pub async fn run(self) {
        registry::follow(self).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Driver>> {
        // Nothing panics while it holds the lock.
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver, or why there is no volume of it.
    fn for_mount(&self, name: &str) -> Result<Driver, String> {
        let found = self.driver(name);
        found.map_err(|error| format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {error}"))
    }

    fn driver(&self, name: &str) -> Result<Driver, String> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    /// Waits for the turn of a volume.
    async fn turn(&self, handle: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(handle.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
