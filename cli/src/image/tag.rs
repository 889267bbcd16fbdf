//! `knarr image tag`: another name for an image.

use crate::events::{Journal, familiar};
use knarr_images::ImageStore;

/// Names the image of `name` also `target`.
pub(crate) fn run(store: &ImageStore, journal: &Journal, name: &str, target: &str) -> anyhow::Result<()> {
    let image = super::find(store, name)?;
    store.tag(&image, target)?;
    journal.image("tag", &image.id, &familiar(target));
    Ok(())
}
