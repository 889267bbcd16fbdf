//! `knarr image load`: the images of an archive that `save`, Docker, podman or skopeo wrote.

use super::names;
use crate::args::Load;
use crate::events::Journal;
use crate::output;
use anyhow::Context;
use knarr_images::{ImageStore, Platform};

/// Reads a file or stdin and prints what was in it.
pub(crate) fn run(store: &ImageStore, journal: &Journal, arguments: &Load) -> anyhow::Result<()> {
    let platform = arguments.platform.as_deref().map(Platform::parse).transpose()?;
    let images = match &arguments.input {
        None => store.load(&mut std::io::stdin().lock(), platform.as_ref())?,
        Some(file) => {
            let mut opened = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
            store.load(&mut opened, platform.as_ref())?
        }
    };
    for image in images {
        journal.image("load", &image.id, &image.id);
        if image.tags.is_empty() {
            output::line(&format!("Loaded image ID: {}", image.id));
        }
        for tag in &image.tags {
            output::line(&format!("Loaded image: {}", names::short(tag)));
        }
    }
    Ok(())
}
