//! `knarr system prune`: containers that do not run, networks that none has, then volumes if they are asked for, then images that nobody uses.

use crate::args::{PruneAll, PruneImages};
use crate::confirm;
use crate::events::Journal;
use crate::image::{self, prune::prune as prune_images};
use crate::output;
use crate::settings::Settings;
use crate::standalone::{networks, prune, volumes};

/// Removes all that and says how much it gave back.
pub(crate) async fn run(settings: &Settings, arguments: &PruneAll) -> anyhow::Result<()> {
    if !confirm::removal(arguments.force, &what(arguments))? {
        return Ok(());
    }
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

/// What goes, for the question.
fn what(arguments: &PruneAll) -> String {
    let mut kinds = vec!["all stopped containers", "all networks not used by at least one container"];
    if arguments.volumes {
        kinds.push("all anonymous volumes not used by at least one container");
    }
    kinds.extend(match arguments.all {
        true => {
            ["all images without at least one container associated to them", "all build cache"].as_slice()
        }
        false => ["all dangling images"].as_slice(),
    });
    confirm::list(&kinds, &arguments.filter)
}
