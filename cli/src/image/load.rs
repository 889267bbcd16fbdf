//! `knarr image load`: the images of an archive that `save`, Docker, podman or skopeo wrote.

use crate::events::Journal;
use crate::output;
use anyhow::Context;
use knarr_images::ImageStore;
use std::path::Path;

/// Reads a file or stdin and prints what was in it.
pub(crate) fn run(store: &ImageStore, journal: &Journal, input: Option<&Path>) -> anyhow::Result<()> {
    let images = match input {
        None => store.load(&mut std::io::stdin().lock())?,
        Some(file) => {
            let mut opened = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
            store.load(&mut opened)?
        }
    };
    for image in images {
        journal.image("load", &image.id, &image.id);
        output::line(&format!("Loaded image: {}", image.tags.first().unwrap_or(&image.id)));
    }
    Ok(())
}
