//! Disks of iSCSI targets: logged in to by the machine's `iscsiadm`, formatted where empty, mounted once for the node and
//! bound into each pod that uses them.
//!
//! What must hold: which pod uses which disk is on disk (`iscsi.json` in the pod's directory) before anybody logs in, and
//! until the disk has been let go of; what one target is asked for comes one after the other, for a login for one disk
//! must not meet the logout of another. Mounts and names are where a kubelet has them.

mod attach;
mod chap;
mod disk;
mod file_system;
mod interface;
mod record;
mod release;
mod session;

pub use disk::{Disk, describe};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The directory of such volumes among others.
pub const PLUGIN: &str = "kubernetes.io~iscsi";

/// For one call of `iscsiadm`, which waits for its target two minutes itself.
const PATIENCE: Duration = Duration::from_secs(150);

/// The disks of a node.
#[derive(Debug, Clone)]
pub struct Iscsi {
    /// The kubelet's directory.
    root: PathBuf,
    /// By target: what it is asked for takes turns. Held only for a look-up.
    turns: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Iscsi {
    /// Disks that are mounted under the kubelet's directory `root`.
    pub fn new(root: &Path) -> Iscsi {
        Iscsi { root: root.to_path_buf(), turns: Arc::default() }
    }

    /// Waits for the turn of a target.
    async fn turn(&self, target: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(target.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Where the disk's files are for the whole node.
    fn global(&self, disk: &Disk) -> PathBuf {
        let plugin = self.root.join("plugins/kubernetes.io/iscsi");
        let place = if disk.block { plugin.join("volumeDevices") } else { plugin };
        let portal = disk.portals.first().map_or("", String::as_str);
        let name = format!("{portal}-{}-lun-{}", disk.target, disk.lun);
        place.join(format!("iface-{}", disk.interface)).join(name)
    }
}

/// Work on files, off the threads that serve everybody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
