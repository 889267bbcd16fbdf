//! `knarr image build`: an image from a Dockerfile.

use crate::args::Build;
use crate::settings::Settings;
use anyhow::bail;
use knarr_images::ImageStore;

/// Builds the context.
pub(crate) async fn run(settings: &Settings, store: &ImageStore, arguments: Build) -> anyhow::Result<()> {
    let _ = (settings, store);
    bail!(
        "build {}: not supported yet; `knarr image import` makes an image of a directory",
        arguments.context.display()
    )
}
