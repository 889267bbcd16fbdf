//! `knarr image rm`: removes names; an image goes with its last one. An id removes all names at once.

use crate::events::{Journal, familiar};
use crate::output;
use anyhow::bail;
use knarr_images::ImageStore;

/// Removes every one it can, then reports those it could not.
pub(crate) fn run(store: &ImageStore, journal: &Journal, names: &[String]) -> anyhow::Result<()> {
    let failed = |name: &String| remove(store, journal, name).err().map(|error| format!("{error:#}"));
    let failures: Vec<String> = names.iter().filter_map(failed).collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

fn remove(store: &ImageStore, journal: &Journal, name: &str) -> anyhow::Result<()> {
    let image = super::find(store, name)?;
    let by_id = image.id.trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"));
    if by_id {
        store.remove(&image)?;
        image.tags.iter().for_each(|tag| journal.image("untag", &image.id, tag));
    } else {
        store.untag(name)?;
        journal.image("untag", &image.id, &familiar(name));
    }
    if store.find(&image.id)?.is_none() {
        journal.image("delete", &image.id, &image.id);
    }
    output::line(name);
    Ok(())
}
