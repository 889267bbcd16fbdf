//! `knarr image rm`: removes names; an image goes with its last one. An id removes all names at once.

use crate::output;
use anyhow::bail;
use knarr_images::ImageStore;

/// Removes every one it can, then reports those it could not.
pub(crate) fn run(store: &ImageStore, names: &[String]) -> anyhow::Result<()> {
    let failures: Vec<String> =
        names.iter().filter_map(|name| remove(store, name).err().map(|error| format!("{error:#}"))).collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

fn remove(store: &ImageStore, name: &str) -> anyhow::Result<()> {
    let image = super::find(store, name)?;
    let by_id = image.id.trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"));
    if by_id {
        store.remove(&image)?;
    } else {
        store.untag(name)?;
    }
    output::line(name);
    Ok(())
}
