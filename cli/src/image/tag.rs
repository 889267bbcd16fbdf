//! `knarr image tag`: another name for an image.

use knarr_images::ImageStore;

/// Names the image of `name` also `target`.
pub(crate) fn run(store: &ImageStore, name: &str, target: &str) -> anyhow::Result<()> {
    Ok(store.tag(&super::find(store, name)?, target)?)
}
