//! `knarr commit`: an image of a container.

use super::Standalone;
use super::facts::Facts;
use crate::args::Commit as Arguments;
use crate::settings::Settings;
use crate::{image, output};
use knarr_images::Commit;

/// Commits and prints the image's id. The container is frozen meanwhile, unless the user says otherwise.
pub(crate) async fn run(settings: Settings, arguments: Arguments) -> anyhow::Result<()> {
    let place = Standalone::find(&settings, &arguments.name).await?;
    let facts = Facts::expect(&place).await?;
    let freeze = arguments.pause && facts.state() == "running";
    let request = Commit {
        name: arguments.image,
        author: arguments.author,
        message: arguments.message,
        changes: arguments.change,
        mount_points: facts.mount_points(),
    };
    let store = image::open(&settings)?;
    let (id, image) = (facts.status.id.clone(), facts.status.image_id.clone());
    if freeze {
        place.engine.set_paused(&id, true).await?;
    }
    let key = id.clone();
    let made = tokio::task::spawn_blocking(move || store.commit(&key, &image, &request)).await;
    if freeze {
        place.engine.set_paused(&id, false).await?;
    }
    output::line(&made??.id);
    Ok(())
}
