//! `knarr image mount`: looks into an image; `umount TARGET` ends it.

use crate::output;
use anyhow::Context;
use knarr_images::ImageStore;
use std::path::Path;

/// Mounts the image read-only at `target` and prints the path.
pub(crate) fn run(store: &ImageStore, name: &str, target: &Path) -> anyhow::Result<()> {
    let image = super::find(store, name)?;
    let target = target.canonicalize().with_context(|| format!("{}", target.display()))?;
    let key = format!("mount-{}", target.display().to_string().replace('/', "-"));
    for mount in store.view(&key, &image)? {
        mount.mount_at(&target)?;
    }
    output::line(&target.display().to_string());
    Ok(())
}
