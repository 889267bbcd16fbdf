//! `knarr image`: the store's commands, one file each. They work beside a running agent, on the same store.

mod build;
mod build_output;
mod copy;
mod df;
mod history;
mod import;
mod inspect;
mod load;
mod ls;
mod mount;
mod progress;
mod prune;
mod pull;
mod push;
mod rm;
mod save;
mod tag;
mod tags;

use crate::args::Image as Command;
use crate::events::Journal;
use crate::settings::Settings;
use anyhow::Context;
use knarr_images::{Image, ImageStore, Options, login_files};

pub(crate) use pull::pull;

/// Runs one image command.
pub(crate) async fn run(settings: Settings, command: Command) -> anyhow::Result<()> {
    let store = open(&settings)?;
    let journal = &Journal::of(&settings);
    match command {
        Command::Pull(arguments) => pull::run(&store, journal, arguments).await,
        Command::Push(arguments) => push::run(&store, journal, arguments).await,
        Command::Copy { source, target } => copy::run(&store, &source, &target).await,
        Command::Ls(arguments) => ls::run(&store, &arguments),
        Command::Inspect { name } => inspect::run(&store, &name),
        Command::Tag { name, target } => tag::run(&store, journal, &name, &target),
        Command::Rm { names } => rm::run(&store, journal, &names),
        Command::Save(arguments) => save::run(&store, journal, &arguments),
        Command::Load { input } => load::run(&store, journal, input.as_deref()),
        Command::Import(arguments) => import::run(&store, journal, arguments).await,
        Command::Build(arguments) => build::run(&settings, &store, arguments).await,
        Command::Prune { all, until, filter, force: _ } => {
            prune::run(&store, journal, all, until.as_deref(), filter.as_deref())
        }
        Command::History { no_trunc, name } => history::run(&store, &name, no_trunc),
        Command::Tags { name } => tags::run(&store, &name).await,
        Command::Catalog { registry } => tags::catalog(&store, &registry).await,
        Command::Df => df::run(&store),
        Command::Mount { name, target } => mount::run(&store, &name, &target),
        Command::Unmount { target } => mount::undo(&store, &target),
    }
}

/// The store of this machine. Credentials are those that `docker login` or `podman login` left for this user.
pub(crate) fn open(settings: &Settings) -> anyhow::Result<ImageStore> {
    let directory = settings.images_dir();
    let options = Options {
        hosts_dir: Some(settings.node.engine.registry_hosts_dir.clone()),
        logins: login_files(),
        ..Options::default()
    };
    ImageStore::open_with(&directory, options).with_context(|| format!("image store {}", directory.display()))
}

/// The image that `name` means, or the error that every command gives.
fn find(store: &ImageStore, name: &str) -> anyhow::Result<Image> {
    store.find(name)?.with_context(|| format!("{name}: no such image"))
}
