//! `knarr image inspect`: manifest, config and layers of one image.

use crate::output;
use knarr_images::ImageStore;
use serde_json::json;

/// Prints one image as JSON.
pub(crate) fn run(store: &ImageStore, name: &str) -> anyhow::Result<()> {
    let found = store.inspect(&super::find(store, name)?)?;
    let layers: Vec<_> = found
        .layers
        .iter()
        .map(|layer| {
            json!({
                "digest": layer.digest,
                "diffId": layer.diff_id,
                "size": layer.size,
                "unpacked": {"bytes": layer.unpacked.0, "inodes": layer.unpacked.1},
            })
        })
        .collect();
    output::json(&json!({
        "id": found.image.id,
        "repoTags": found.image.tags,
        "repoDigests": found.image.digests,
        "size": found.image.size,
        "pinned": found.image.pinned,
        "manifestDigest": found.manifest_digest,
        "manifest": found.manifest,
        "config": found.config,
        "layers": layers,
    }))
}
