//! Checkpoints of containers: archives in the layout that containerd and CRI-O give them, taken from a running container
//! and gone on from by a new one.
//!
//! ```text
//! checkpoint/        criu's images: processes, memory, descriptors
//! config.dump        which image the container stands on, its name, when it was made
//! spec.dump          its config.json
//! status.dump        its status in CRI's words
//! rootfs-diff.tar    what it wrote, as a layer
//! container.log      its log so far
//! dump.log stats-dump    criu's own words and figures
//! ```
//!
//! What must hold: a container that is written down is frozen only while that lasts, whoever dies meanwhile (`recover`), and
//! goes on. Processes are the OCI runtime's and criu's business: a host where those cannot says so in their words.

pub(crate) mod documents;
pub(crate) mod pod;
pub(crate) mod source;
pub(crate) mod take;

use super::blocking::blocking;
use super::core::Core;
use super::registry::Container;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// criu's images, in a directory of a checkpoint.
pub(crate) const IMAGES: &str = "checkpoint";
const CONFIG: &str = "config.dump";
const SPEC: &str = "spec.dump";
const STATUS: &str = "status.dump";
const WRITTEN: &str = "rootfs-diff.tar";
const LOG: &str = "container.log";

/// Between two attempts to let a container go on while the runtime is still at it.
const PAUSE: Duration = Duration::from_secs(1);

/// Ends the names of directories of checkpoints that are being taken.
const TAKING: &str = ".taking";

/// What a container wrote, for the one that goes on from its checkpoint.
pub(crate) fn written(core: &Core, id: &str) -> PathBuf {
    core.paths.checkpoint(id).join(WRITTEN)
}

/// It holds the memory of a container: nobody else may read it.
fn make_private(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Removes what `id` was to go on from. Blocking; idempotent.
pub(crate) fn forget(core: &Core, id: &str) -> io::Result<()> {
    remove(&core.paths.checkpoint(id))
}

fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// What an earlier engine left: a container that it had frozen goes on, and what was half taken, or belongs to nobody, goes.
pub(crate) async fn recover(core: &Arc<Core>) {
    let directory = core.paths.checkpoints();
    let names = blocking(move || Ok(names(&directory))).await.unwrap_or_default();
    for name in names {
        let (taken, id) = match name.strip_suffix(TAKING) {
            Some(id) => (true, id),
            None => (false, name.as_str()),
        };
        match (taken, core.registry.container(id).ok()) {
            (true, Some(container)) => {
                // The runtime may still be at work: it is waited for, and nobody else is held up.
                tokio::spawn(let_go_on(core.clone(), container, name));
            }
            (false, Some(_)) => {}
            (_, None) => discard(core, &name).await,
        }
    }
}

async fn let_go_on(core: Arc<Core>, container: Arc<Container>, name: String) {
    while container.record.with(|record| record.is_running()) {
        match thaw(&core, &container).await {
            Err(error) if !error.to_string().contains("not paused") => {
                tracing::warn!("container {} is still frozen: {error:#}", container.id);
                tokio::time::sleep(PAUSE).await;
            }
            _ => break,
        }
    }
    discard(&core, &name).await;
}

async fn discard(core: &Core, name: &str) {
    let directory = core.paths.checkpoint(name);
    let removed = blocking(move || Ok(remove(&directory)?)).await;
    removed.unwrap_or_else(|error| tracing::error!("removing checkpoint {name}: {error:#}"));
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// An error where it is not frozen.
async fn thaw(core: &Core, container: &Container) -> anyhow::Result<()> {
    core.runtime_of(&container.sandbox_id)?.resume(&container.id).await
}
