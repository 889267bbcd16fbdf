//! `knarr system`, `knarr info` and `knarr version`: the machine and its knarr as a whole, in Docker's words.

pub(crate) mod df;
pub(crate) mod info;
pub(crate) mod prune;
pub(crate) mod version;

use crate::args::System as Command;
use crate::events;
use crate::settings::Settings;

/// One of the system commands.
pub(crate) async fn run(settings: Settings, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Df(arguments) => df::run(&settings, &arguments).await,
        Command::Events(arguments) => events::run(settings, arguments).await,
        Command::Info(arguments) => info::run(&settings, &arguments).await,
        Command::Prune(arguments) => prune::run(&settings, &arguments).await,
    }
}
