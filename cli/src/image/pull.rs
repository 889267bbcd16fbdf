//! `knarr image pull`: download, verify, unpack; durable when it returns.

use super::progress;
use crate::args::{Output, Pull as Arguments};
use crate::output;
use knarr_images::{Image, ImageStore, Pull};
use serde_json::json;

/// Pulls one image and prints its name with the digest.
pub(crate) async fn run(store: &ImageStore, arguments: Arguments) -> anyhow::Result<()> {
    let image = pull(store, &arguments.name, arguments.platform).await?;
    match arguments.output {
        Output::Text => output::line(image.digests.first().unwrap_or(&image.id)),
        Output::Json => {
            output::json(&json!({"id": image.id, "repoTags": image.tags, "repoDigests": image.digests}))?
        }
    }
    Ok(())
}

/// The image as it is here, or pulled.
pub(crate) async fn pull_if_missing(store: &ImageStore, name: &str) -> anyhow::Result<Image> {
    match store.find(name)? {
        Some(image) => Ok(image),
        None => pull(store, name, None).await,
    }
}

pub(crate) async fn pull(store: &ImageStore, name: &str, platform: Option<String>) -> anyhow::Result<Image> {
    let (sender, shown) = progress::show();
    let pull = Pull { reference: name.to_owned(), credentials: None, platform, progress: Some(sender) };
    let image = store.pull(pull).await;
    shown.await?;
    Ok(image?)
}
