//! `knarr image ls`: one row per name.

use crate::args::{Ls, Output};
use crate::output;
use knarr_images::{Image, ImageStore};
use serde_json::json;

/// Lists images.
pub(crate) fn run(store: &ImageStore, arguments: &Ls) -> anyhow::Result<()> {
    let images = store.list()?;
    if arguments.output == Output::Json {
        return output::json(&images.iter().map(as_json).collect::<Vec<_>>());
    }
    if arguments.quiet {
        images.iter().for_each(|image| output::line(&short_id(&image.id)));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = images.iter().flat_map(rows).collect();
    output::table(&["IMAGE", "TAG", "IMAGE ID", "SIZE"], &rows);
    Ok(())
}

fn rows(image: &Image) -> Vec<Vec<String>> {
    let row = |name: &str, tag: &str| {
        vec![name.to_owned(), tag.to_owned(), short_id(&image.id), output::size(image.size)]
    };
    if image.tags.is_empty() {
        return vec![row("<none>", "<none>")];
    }
    image
        .tags
        .iter()
        .map(|tag| tag.rsplit_once(':').map_or_else(|| row(tag, ""), |(name, tag)| row(name, tag)))
        .collect()
}

/// The first 13 digits, as crictl shows them.
pub(crate) fn short_id(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(13).collect()
}

fn as_json(image: &Image) -> serde_json::Value {
    json!({
        "id": image.id,
        "repoTags": image.tags,
        "repoDigests": image.digests,
        "size": image.size,
        "pinned": image.pinned,
    })
}
