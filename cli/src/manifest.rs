//! `knarr manifest`: lists of manifests, by which one name stands for images of several platforms, made here and sent to a
//! registry. Docker's commands, words and documents: a list that both make of the same images has the same digest.

mod document;
mod kept;

use crate::args::{Annotate, Manifests};
use crate::settings::Settings;
use crate::{image, output};
use anyhow::{anyhow, bail};
use kept::{Kept, List};
use knarr_images::{ErrorKind, ImageStore, Reference, Remote, RemoteManifest};

/// Runs one command.
pub(crate) async fn run(settings: &Settings, command: Manifests) -> anyhow::Result<()> {
    let kept = Kept::of(settings);
    match command {
        Manifests::Inspect { verbose, names, insecure } => {
            let store = || open(settings, &names, insecure);
            inspect(store, &kept, &names, verbose).await
        }
        Manifests::Create { amend, list, members, insecure } => {
            let store = open(settings, &members, insecure)?;
            create(&store, &kept, &list, &members, amend).await
        }
        Manifests::Annotate(wanted) => annotate(&kept, &wanted),
        Manifests::Push { purge, list, insecure } => {
            let store = open(settings, std::slice::from_ref(&list), insecure)?;
            push(&store, &kept, &list, purge).await
        }
        Manifests::Rm { lists } => forget(&kept, &lists),
    }
}

/// The store; with `insecure` the registries of these names are spoken to in plain HTTP.
fn open(settings: &Settings, names: &[String], insecure: bool) -> anyhow::Result<ImageStore> {
    let names = names.iter().filter(|_| insecure);
    let registries = names.map(|name| Reference::parse(name).map(|reference| reference.registry));
    image::open_for(settings, registries.collect::<Result<_, _>>()?)
}

async fn look(store: &ImageStore, name: &str) -> anyhow::Result<Remote> {
    let found = store.look(name, None).await;
    found.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("no such manifest: {name}"),
        _ => error.into(),
    })
}

/// A list that is being made comes before what a registry has.
async fn inspect(
    store: impl FnOnce() -> anyhow::Result<ImageStore>,
    kept: &Kept,
    names: &[String],
    verbose: bool,
) -> anyhow::Result<()> {
    let found = match names {
        [list, member] => Remote::One(kept.expect(list)?.member(member)?.clone()),
        _ => {
            let name = names.first().map(String::as_str).unwrap_or_default();
            match kept.find(name)? {
                Some(list) => Remote::Several(list.members),
                None => look(&store()?, name).await?,
            }
        }
    };
    output::line(&match (&found, verbose) {
        (Remote::One(one), false) => document::indented(&one.text, "\t"),
        (Remote::One(one), true) => document::indented(&document::verbose(one), "\t"),
        (Remote::Several(all), false) => document::index(all)?.1,
        (Remote::Several(all), true) => {
            let all: Vec<String> = all.iter().map(document::verbose).collect();
            document::indented(&format!("[{}]", all.join(",")), "\t")
        }
    });
    Ok(())
}

async fn create(
    store: &ImageStore,
    kept: &Kept,
    name: &str,
    members: &[String],
    amend: bool,
) -> anyhow::Result<()> {
    let mut list = match kept.find(name)? {
        Some(_) if !amend => bail!("refusing to amend an existing manifest list with no --amend flag"),
        Some(list) => list,
        None => List::new(name)?,
    };
    for member in members {
        match look(store, member).await? {
            Remote::One(manifest) => list.add(manifest),
            Remote::Several(_) => bail!("{} is a manifest list", Reference::parse(member)?),
        }
    }
    kept.keep(&list)?;
    output::line(&format!("Created manifest list {}", list.name));
    Ok(())
}

fn annotate(kept: &Kept, wanted: &Annotate) -> anyhow::Result<()> {
    let missing = || anyhow!("manifest for image {} does not exist in {}", wanted.manifest, wanted.list);
    let mut list = kept.find(&wanted.list)?.ok_or_else(missing)?;
    let platform = &mut list.member_mut(&wanted.manifest).map_err(|_| missing())?.platform;
    let set =
        |field: &mut String, value: &Option<String>| value.iter().for_each(|value| field.clone_from(value));
    set(&mut platform.os, &wanted.os);
    set(&mut platform.architecture, &wanted.arch);
    set(&mut platform.variant, &wanted.variant);
    set(&mut platform.os_version, &wanted.os_version);
    let new = wanted.os_features.iter().filter(|feature| !platform.os_features.contains(feature));
    let new: Vec<String> = new.cloned().collect();
    platform.os_features.extend(new);
    if !document::is_known(&platform.os, &platform.architecture) {
        // What was said now, as Docker has it.
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let (os, arch) = (said(&wanted.os), said(&wanted.arch));
        bail!("manifest entry for image has unsupported os/arch combination: {os}/{arch}");
    }
    kept.keep(&list)
}

/// The images first, which may lie in another repository or registry; then the list of them.
async fn push(store: &ImageStore, kept: &Kept, name: &str, purge: bool) -> anyhow::Result<()> {
    let list = kept.expect(name)?;
    let unnamed = |one: &&RemoteManifest| one.platform.os.is_empty() || one.platform.architecture.is_empty();
    if let Some(one) = list.members.iter().find(unnamed) {
        bail!("manifest {} must have an OS and Architecture to be pushed to a registry", one.name);
    }
    let target = Reference::parse(&list.name)?.name();
    for member in &list.members {
        let source = format!("{}@{}", Reference::parse(&member.name)?.name(), member.digest);
        let exact = format!("{target}@{}", member.digest);
        store.copy((&source, None), (&exact, None)).await?;
        output::line(&format!("Pushed ref {exact} with digest: {}", member.digest));
    }
    let (media_type, text) = document::index(&list.members)?;
    output::line(&store.put_index(&list.name, media_type, text, None).await?);
    if purge { kept.forget(name) } else { Ok(()) }
}

/// All that are there; then what is wrong with the others.
fn forget(kept: &Kept, lists: &[String]) -> anyhow::Result<()> {
    let failed = lists.iter().filter_map(|name| kept.forget(name).err());
    let failed: Vec<String> = failed.map(|error| error.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(anyhow!(failed.join("\n"))) }
}
