//! `knarr image`: the store's commands, one file each. They work beside a running agent, on the same store.

mod build;
mod build_call;
mod build_context;
mod build_findings;
mod build_outline;
mod build_output;
mod build_request;
mod copy;
mod df;
pub(crate) mod document;
mod history;
mod import;
mod inspect;
pub(crate) mod listed;
mod load;
mod ls;
mod mount;
pub(crate) mod names;
mod progress;
pub(crate) mod prune;
mod pull;
mod push;
mod rm;
mod save;
mod tag;
mod tags;

use crate::args::{Image as Command, Later};
use crate::events::{Journal, familiar};
use crate::settings::Settings;
use crate::standalone;
use anyhow::{Context, anyhow, bail};
use knarr_images::{Image, ImageStore, Options, login_files};
use serde_json::Value;
use std::process::ExitCode;

pub(crate) use build::is_for;
pub(crate) use pull::pull;

/// Runs one image command.
pub(crate) async fn run(settings: Settings, command: Command) -> anyhow::Result<ExitCode> {
    let store = &open(&settings)?;
    let journal = &Journal::of(&settings);
    let done = match command {
        Command::Pull(arguments) => pull::run(store, journal, arguments).await,
        Command::Push(arguments) => push::run(store, journal, arguments).await,
        Command::Copy { source, target } => copy::run(store, &source, &target).await,
        Command::Ls(arguments) => ls::run(store, &arguments),
        Command::Inspect(arguments) => inspect::run(store, &arguments),
        Command::Tag(arguments) => tag::run(store, journal, &arguments),
        Command::Rm(arguments) => {
            let uses = standalone::uses(&settings).await?;
            rm::run(store, journal, &uses, &arguments)
        }
        Command::Save(arguments) => save::run(store, journal, &arguments),
        Command::Load(arguments) => load::run(store, journal, &arguments),
        Command::Import(arguments) => import::run(store, journal, arguments).await,
        Command::Build(Later(arguments)) => return build::run(&settings, store, *arguments).await,
        Command::Prune(arguments) => prune::run(store, journal, &arguments),
        Command::History(arguments) => history::run(store, &arguments),
        Command::Tags { name } => tags::run(store, &name).await,
        Command::Catalog { registry } => tags::catalog(store, &registry).await,
        Command::Df => df::run(store),
        Command::Mount { name, target } => mount::run(store, &name, &target),
        Command::Unmount { target } => mount::undo(store, &target),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The store of this machine. Credentials are those that `docker login` or `podman login` left for this user.
pub(crate) fn open(settings: &Settings) -> anyhow::Result<ImageStore> {
    open_for(settings, Vec::new())
}

/// The same, for somebody who knows registries that speak plain HTTP.
pub(crate) fn open_for(settings: &Settings, plain_http: Vec<String>) -> anyhow::Result<ImageStore> {
    let directory = settings.images_dir();
    let options = Options {
        hosts_dir: Some(settings.node.engine.registry_hosts_dir.clone()),
        logins: login_files(),
        plain_http,
        ..Options::default()
    };
    ImageStore::open_with(&directory, options).with_context(|| format!("image store {}", directory.display()))
}

/// The config of an image for a platform: from the store, else from its registry, without its layers.
pub(crate) async fn config_of(store: &ImageStore, name: &str, platform: &str) -> anyhow::Result<Value> {
    match store.find(name)? {
        Some(image) if is_for(store, &image, platform)? => Ok(store.inspect(&image)?.config),
        _ => Ok(store.remote_config(name, platform, None).await?),
    }
}

/// The image that `name` means, or the error that every command gives.
pub(crate) fn find(store: &ImageStore, name: &str) -> anyhow::Result<Image> {
    store.find(name)?.ok_or_else(|| no_such(name))
}

/// Docker's words.
fn no_such(name: &str) -> anyhow::Error {
    anyhow!("No such image: {}", familiar(name))
}

/// Fails where an image is for another platform than the one that is asked for.
fn expect_platform(
    store: &ImageStore,
    image: &Image,
    name: &str,
    wanted: Option<&str>,
) -> anyhow::Result<()> {
    match wanted {
        Some(wanted) if !is_for(store, image, wanted)? => bail!(
            "image with reference {name} was found but does not provide the specified platform ({wanted})"
        ),
        _ => Ok(()),
    }
}
