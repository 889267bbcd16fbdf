//! `knarr image push`, `knarr push`: upload an image; what the registry already has is not sent again.

use super::{names, progress};
use crate::args::Push;
use crate::events::{Journal, familiar};
use crate::output;
use anyhow::bail;
use knarr_images::{Image, ImageStore};

/// Pushes one image, or all of a repository, and prints the digest under which the registry keeps it.
pub(crate) async fn run(store: &ImageStore, journal: &Journal, arguments: Push) -> anyhow::Result<()> {
    if arguments.all_tags {
        return every_tag(store, journal, &arguments).await;
    }
    let Some(image) = store.find(&arguments.name)? else {
        bail!("An image does not exist locally with the tag: {}", names::repository(&arguments.name)?);
    };
    super::expect_platform(store, &image, &arguments.name, arguments.platform.as_deref())?;
    let name = arguments.target.as_deref().unwrap_or(&arguments.name);
    one(store, journal, &image, name, arguments.quiet).await
}

async fn every_tag(store: &ImageStore, journal: &Journal, arguments: &Push) -> anyhow::Result<()> {
    if familiar(&arguments.name) == arguments.name {
        bail!("tag can't be used with --all-tags/-a");
    }
    let whole = names::whole(&arguments.name)?;
    let repository = names::split(&whole).0;
    let mut found = false;
    for image in store.list()? {
        for tag in image.tags.iter().filter(|tag| names::split(tag).0 == repository) {
            one(store, journal, &image, tag, arguments.quiet).await?;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(super::no_such(&arguments.name)) }
}

async fn one(
    store: &ImageStore,
    journal: &Journal,
    image: &Image,
    name: &str,
    quiet: bool,
) -> anyhow::Result<()> {
    let whole = names::whole(name)?;
    let (repository, tag) = names::split(&whole);
    if !quiet {
        output::line(&format!("The push refers to repository [{repository}]"));
    }
    let digest = push(store, journal, image, name, quiet).await?;
    match quiet {
        true => output::line(&whole),
        false => {
            let bytes = store.inspect(image)?.manifest_size;
            output::line(&format!("{tag}: digest: {digest} size: {bytes}"));
        }
    }
    Ok(())
}

/// Pushes with progress, unless it is to be quiet; answers the manifest's digest.
pub(crate) async fn push(
    store: &ImageStore,
    journal: &Journal,
    image: &Image,
    name: &str,
    quiet: bool,
) -> anyhow::Result<String> {
    let (sender, shown) = progress::show(quiet);
    let digest = store.push(image, name, None, Some(sender)).await;
    shown.await?;
    let digest = digest?;
    let full = familiar(name);
    journal.image("push", &full, full.rsplit_once(':').map_or(&full, |(repository, _)| repository));
    Ok(digest)
}
