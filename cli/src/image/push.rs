//! `knarr image push`: upload an image; what the registry already has is not sent again.

use super::progress;
use crate::args::Push;
use crate::events::{Journal, familiar};
use crate::output;
use knarr_images::{Image, ImageStore};

/// Pushes one image and prints the digest under which the registry keeps it.
pub(crate) async fn run(store: &ImageStore, journal: &Journal, arguments: Push) -> anyhow::Result<()> {
    let image = super::find(store, &arguments.name)?;
    let name = arguments.target.unwrap_or(arguments.name);
    output::line(&push(store, journal, &image, &name).await?);
    Ok(())
}

/// Pushes with progress; answers the manifest's digest.
pub(crate) async fn push(
    store: &ImageStore,
    journal: &Journal,
    image: &Image,
    name: &str,
) -> anyhow::Result<String> {
    let (sender, shown) = progress::show();
    let digest = store.push(image, name, None, Some(sender)).await;
    shown.await?;
    let digest = digest?;
    let full = familiar(name);
    journal.image("push", &full, full.rsplit_once(':').map_or(&full, |(repository, _)| repository));
    Ok(digest)
}
