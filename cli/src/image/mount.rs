//! `knarr image mount` and `unmount`: looks into an image.

use crate::output;
use anyhow::Context;
use knarr_images::{ImageStore, Mount};
use std::path::{Path, PathBuf};

/// Mounts the image read-only at `target` and prints the path.
pub(crate) fn run(store: &ImageStore, name: &str, target: &Path) -> anyhow::Result<()> {
    let image = super::find(store, name)?;
    let target = place(target)?;
    for mount in store.view(&key(&target), &image)? {
        mount.mount_at(&target)?;
    }
    output::line(&target.display().to_string());
    Ok(())
}

/// Takes the mount off and lets the image go; one that is not mounted is no error.
pub(crate) fn undo(store: &ImageStore, target: &Path) -> anyhow::Result<()> {
    let target = place(target)?;
    Mount::unmount(&target)?;
    Ok(store.remove_snapshot(&key(&target))?)
}

fn place(target: &Path) -> anyhow::Result<PathBuf> {
    target.canonicalize().with_context(|| format!("{}", target.display()))
}

/// Of the snapshot that keeps the image while it is mounted there.
fn key(target: &Path) -> String {
    format!("mount-{}", target.display().to_string().replace('/', "-"))
}
