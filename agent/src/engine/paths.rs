//! Where the engine keeps what: one place, so that teardown, recovery and a reader agree.
//!
//! ```text
//! DATA_DIR/engine/sandboxes/ID.json      records: survive a reboot
//! DATA_DIR/engine/containers/ID.json
//! DATA_DIR/engine/checkpoints/ID         what a container that was not started yet goes on from
//! DATA_DIR/engine/checkpoints/ID.taking  a checkpoint of a container that is being taken
//! STATE_DIR/pods/ID/ns/{net,ipc,uts,pid,user} pinned namespaces (bind mounts)
//! STATE_DIR/pods/ID/shm                  the pod's /dev/shm (tmpfs)
//! STATE_DIR/pods/ID/etc/{hostname,hosts,resolv.conf}
//! STATE_DIR/containers/ID/config.json    the OCI bundle
//! STATE_DIR/containers/ID/rootfs         its root file system (overlay)
//! STATE_DIR/containers/ID/images/N       image volumes
//! STATE_DIR/containers/ID/volumes/N      writable volumes of a read-only root
//! STATE_DIR/runtime/HANDLER              the OCI runtime's own state
//! ```

use crate::config::Config;
use std::path::PathBuf;

/// The layout of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    data: PathBuf,
    state: PathBuf,
}

impl Paths {
    pub(crate) fn new(config: &Config) -> Self {
        Self { data: config.data_dir.join("engine"), state: config.state_dir.clone() }
    }

    /// Mounts are made below this, so it is a private mount of its own.
    pub(crate) fn state(&self) -> PathBuf {
        self.state.clone()
    }

    pub(crate) fn sandbox_records(&self) -> PathBuf {
        self.data.join("sandboxes")
    }

    pub(crate) fn container_records(&self) -> PathBuf {
        self.data.join("containers")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.data.join("checkpoints")
    }

    pub(crate) fn checkpoint(&self, container: &str) -> PathBuf {
        self.checkpoints().join(container)
    }

    pub(crate) fn pod(&self, sandbox: &str) -> PathBuf {
        self.state.join("pods").join(sandbox)
    }

    pub(crate) fn namespaces(&self, sandbox: &str) -> PathBuf {
        self.pod(sandbox).join("ns")
    }

    /// `kind` as in `/proc/PID/ns`.
    pub(crate) fn namespace(&self, sandbox: &str, kind: &str) -> PathBuf {
        self.namespaces(sandbox).join(kind)
    }

    pub(crate) fn shm(&self, sandbox: &str) -> PathBuf {
        self.pod(sandbox).join("shm")
    }

    pub(crate) fn etc(&self, sandbox: &str) -> PathBuf {
        self.pod(sandbox).join("etc")
    }

    pub(crate) fn bundles(&self) -> PathBuf {
        self.state.join("containers")
    }

    pub(crate) fn bundle(&self, container: &str) -> PathBuf {
        self.bundles().join(container)
    }

    pub(crate) fn rootfs(&self, container: &str) -> PathBuf {
        self.bundle(container).join("rootfs")
    }

    pub(crate) fn image_volume(&self, container: &str, index: usize) -> PathBuf {
        self.bundle(container).join("images").join(index.to_string())
    }

    pub(crate) fn runtime_root(&self, handler: &str) -> PathBuf {
        self.state.join("runtime").join(if handler.is_empty() { "default" } else { handler })
    }
}
