//! `knarr diff`: what a container changed against its image.

use super::Standalone;
use super::facts::Facts;
use crate::settings::Settings;
use crate::{image, output};
use knarr_images::Change;

/// One line per file: A added, C changed, D deleted.
pub(crate) async fn run(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let facts = Facts::expect(&place).await?;
    let store = image::open(settings)?;
    let (id, mount_points) = (facts.status.id.clone(), facts.mount_points());
    for (path, change) in tokio::task::spawn_blocking(move || store.changes(&id, &mount_points)).await?? {
        let letter = match change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        };
        output::line(&format!("{letter} {}", path.display()));
    }
    Ok(())
}
