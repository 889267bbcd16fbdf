//! `knarr image pull`: download, verify, unpack; durable when it returns.

use super::progress;
use crate::args::{Output, Pull as Arguments};
use crate::events::{Journal, familiar};
use crate::output;
use knarr_images::{Image, ImageStore, Pull};
use serde_json::json;

/// Pulls one image and prints its name with the digest.
pub(crate) async fn run(store: &ImageStore, journal: &Journal, arguments: Arguments) -> anyhow::Result<()> {
    let image = pull(store, journal, &arguments.name, arguments.platform, false).await?;
    match arguments.output {
        Output::Text => output::line(image.digests.first().unwrap_or(&image.id)),
        Output::Json => {
            output::json(&json!({"id": image.id, "repoTags": image.tags, "repoDigests": image.digests}))?
        }
    }
    Ok(())
}

/// Pulls, with progress on stderr unless it is to be quiet.
pub(crate) async fn pull(
    store: &ImageStore,
    journal: &Journal,
    name: &str,
    platform: Option<String>,
    quiet: bool,
) -> anyhow::Result<Image> {
    let (sender, shown) = progress::show();
    let sender = (!quiet).then_some(sender);
    let pull = Pull { reference: name.to_owned(), credentials: None, platform, progress: sender };
    let image = store.pull(pull).await;
    shown.await?;
    let image = image?;
    let full = familiar(name);
    journal.image("pull", &full, full.rsplit_once(':').map_or(&full, |(repository, _)| repository));
    Ok(image)
}
