//! `knarr image tag`, `knarr tag`: another name for an image.

use crate::args::Tag;
use crate::events::{Journal, familiar};
use knarr_images::ImageStore;

/// Names the image of the first name also as the second one says.
pub(crate) fn run(store: &ImageStore, journal: &Journal, arguments: &Tag) -> anyhow::Result<()> {
    let image = super::find(store, &arguments.name)?;
    store.tag(&image, &arguments.target)?;
    journal.image("tag", &image.id, &familiar(&arguments.target));
    Ok(())
}
