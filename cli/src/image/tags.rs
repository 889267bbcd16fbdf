//! `knarr image tags` and `knarr image catalog`: what a registry has.

use crate::output;
use knarr_images::ImageStore;

/// Prints the tags of a repository.
pub(crate) async fn run(store: &ImageStore, name: &str) -> anyhow::Result<()> {
    let tags = store.list_tags(name, None).await?;
    tags.iter().for_each(|tag| output::line(tag));
    Ok(())
}

/// Prints the repositories of a registry.
pub(crate) async fn catalog(store: &ImageStore, registry: &str) -> anyhow::Result<()> {
    let repositories = store.list_repositories(registry, None).await?;
    repositories.iter().for_each(|name| output::line(name));
    Ok(())
}
