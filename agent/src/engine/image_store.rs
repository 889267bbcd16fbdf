//! The image store of a node, with the node's settings.

use crate::config::Config;
use knarr_images::{ImageStore, Options};

/// Opens it where agent, engine and `knarr image` all find it.
pub(crate) fn open(config: &Config) -> anyhow::Result<ImageStore> {
    let hosts_dir = Some(config.engine.registry_hosts_dir.clone());
    let options = Options { hosts_dir, ..Options::default() };
    Ok(ImageStore::open_with(&config.data_dir.join("images"), options)?)
}
