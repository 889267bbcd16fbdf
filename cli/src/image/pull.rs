//! `knarr image pull`, `knarr pull`: download, verify, unpack; durable when it returns.

use super::{names, progress};
use crate::args::{Output, Pull as Arguments};
use crate::events::{Journal, familiar};
use crate::output;
use anyhow::bail;
use knarr_images::{Image, ImageStore, Pull};
use serde_json::json;

/// Pulls one image, or all of a repository, and says what came of it in Docker's words.
pub(crate) async fn run(store: &ImageStore, journal: &Journal, arguments: Arguments) -> anyhow::Result<()> {
    if arguments.all_tags {
        return every_tag(store, journal, &arguments).await;
    }
    let bare = familiar(&arguments.name) != arguments.name;
    if bare && !arguments.quiet && arguments.output == Output::Text {
        output::line("Using default tag: latest");
    }
    one(store, journal, &arguments, &arguments.name).await
}

async fn every_tag(store: &ImageStore, journal: &Journal, arguments: &Arguments) -> anyhow::Result<()> {
    if familiar(&arguments.name) == arguments.name {
        bail!("tag can't be used with --all-tags/-a");
    }
    for tag in store.list_tags(&arguments.name, None).await? {
        one(store, journal, arguments, &format!("{}:{tag}", arguments.name)).await?;
    }
    Ok(())
}

async fn one(store: &ImageStore, journal: &Journal, arguments: &Arguments, name: &str) -> anyhow::Result<()> {
    let before = store.find(name)?.map(|image| image.id);
    let image = pull(store, journal, name, arguments.platform.clone(), arguments.quiet).await?;
    if arguments.output == Output::Json {
        return output::json(&json!({"id": image.id, "repoTags": image.tags, "repoDigests": image.digests}));
    }
    let whole = names::whole(name)?;
    if !arguments.quiet {
        let repository = names::split(&whole).0;
        let mut digests = image.digests.iter().map(|digest| names::split(digest));
        if let Some((_, digest)) = digests.rfind(|(name, _)| *name == repository) {
            output::line(&format!("Digest: {digest}"));
        }
        let what = if before == Some(image.id) { "Image is up to date" } else { "Downloaded newer image" };
        output::line(&format!("Status: {what} for {}", names::short(&whole)));
    }
    output::line(&whole);
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
    let (sender, shown) = progress::show(quiet);
    let pull = Pull { reference: name.to_owned(), credentials: None, platform, progress: Some(sender) };
    let image = store.pull(pull).await;
    shown.await?;
    let image = image?;
    let full = familiar(name);
    journal.image("pull", &full, full.rsplit_once(':').map_or(&full, |(repository, _)| repository));
    Ok(image)
}
