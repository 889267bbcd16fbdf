//! `knarr rename`: another name, also for a running container.

use super::{Standalone, network, places};
use crate::settings::Settings;
use anyhow::bail;

/// Renames one container.
pub(crate) async fn run(settings: &Settings, name: &str, new_name: &str) -> anyhow::Result<()> {
    if !name.trim().is_empty() && new_name.trim().is_empty() {
        bail!("new name cannot be blank");
    }
    let place = Standalone::find(settings, name).await?;
    let new_name = new_name.trim_start_matches('/');
    if new_name == place.name() {
        bail!("Renaming a container with the same name as its current name");
    }
    places::rename(settings, &place.place, new_name).await?;
    for names in network::names(settings, place.data_dir())? {
        names.rename(&place.place.directory, new_name).await?;
    }
    place.tell("rename", &[("oldName", format!("/{}", place.name())), ("name", new_name.to_owned())]).await;
    Ok(())
}
