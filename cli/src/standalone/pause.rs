//! `knarr pause` and `unpause`: all processes of containers are frozen, or go on.

use super::Standalone;
use super::each::each;
use crate::settings::Settings;
use anyhow::bail;

/// Freezes or thaws every one it can, then reports those it could not.
pub(crate) async fn run(settings: &Settings, names: &[String], pause: bool) -> anyhow::Result<()> {
    each(names, async |name| {
        let place = Standalone::find(settings, name).await?;
        let container = place.running().await?;
        match (place.engine.is_paused(&container.id).await?, pause) {
            (true, true) => bail!("Container {name} is already paused"),
            (false, false) => bail!("Container {name} is not paused"),
            _ => place.engine.set_paused(&container.id, pause).await?,
        }
        place.tell_of(&container, if pause { "pause" } else { "unpause" }, &[]);
        Ok(name.to_owned())
    })
    .await
}
