//! `knarr image prune`: images that no container uses.

use crate::output;
use knarr_images::{ImageStore, Prune};

/// Removes images without a name, or with `--all` every unused one, and says how much that gave back.
pub(crate) fn run(store: &ImageStore, all: bool) -> anyhow::Result<()> {
    let pruned = store.prune(&Prune { all, unused_for: None })?;
    for image in &pruned.images {
        output::line(image.tags.first().unwrap_or(&image.id));
    }
    output::line(&format!("Total reclaimed space: {}", output::size(pruned.bytes)));
    Ok(())
}
