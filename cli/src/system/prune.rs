//! `knarr system prune`: containers that do not run, networks that none has, then volumes if they are asked for, then images that nobody uses.

use crate::args::{PruneAll, PruneImages};
use crate::events::Journal;
use crate::image::{self, prune::prune as prune_images};
use crate::output;
use crate::settings::Settings;
use crate::standalone::{networks, prune, volumes};

/// Removes all that and says how much it gave back.
pub(crate) async fn run(settings: &Settings, arguments: &PruneAll) -> anyhow::Result<()> {
    let mut freed = prune::prune(settings, &arguments.filter).await?;
    networks::remove::prune(settings, &arguments.filter).await?;
    let labels: Vec<String> =
        arguments.filter.iter().filter(|text| text.starts_with("label")).cloned().collect();
    if arguments.volumes {
        freed += volumes::prune(settings, false, &labels).await?;
    }
    let images =
        PruneImages { all: arguments.all, until: None, filter: arguments.filter.clone(), force: true };
    freed += prune_images(&image::open(settings)?, &Journal::of(settings), &images)?.bytes;
    output::line(&format!("Total reclaimed space: {}", output::size(freed)));
    Ok(())
}
