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
    let (comment, reference) =
        (arguments.message.clone().unwrap_or_default(), arguments.image.clone().unwrap_or_default());
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
    let made = made??.id;
    let about = [("comment", comment), ("imageID", made.clone()), ("imageRef", reference)];
    place.tell("commit", &about).await;
    output::line(&made);
    Ok(())
}
