//! `knarr image copy`: from registry to registry, every platform, nothing kept here.

use crate::output;
use knarr_images::ImageStore;

/// Copies and prints the digest.
pub(crate) async fn run(store: &ImageStore, source: &str, target: &str) -> anyhow::Result<()> {
    output::line(&store.copy((source, None), (target, None)).await?);
    Ok(())
}
