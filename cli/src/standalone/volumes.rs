//! Named volumes: directories that outlive containers.
//!
//! ```text
//! DATA_DIR/run-volumes/NAME/_data    the contents; a new volume begins with what the image has at its place
//! DATA_DIR/run-volumes/NAME/of       the container that it was made for, where it was given no name
//! ```

use super::each::each;
use super::plan::mounts::{At, Wish, check_name, volumes_from};
use super::{Standalone, places, plan};
use crate::args::Volume as Command;
use crate::events::Journal;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_agent::cri::v1::Mount;
use knarr_images::{FileKind, Files};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DATA: &str = "_data";

/// One of the volume commands.
pub(super) async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { name } => create(settings, name),
        Command::Ls { quiet } => list(settings, quiet),
        Command::Inspect { names } => inspect(settings, &names),
        Command::Rm { force, names } => {
            each(&names, async |name| {
                expect(settings, name, force)?;
                if in_use(settings).await?.contains(name) {
                    bail!("remove {name}: volume is in use");
                }
                remove(settings, name)?;
                Ok(name.to_owned())
            })
            .await
        }
        Command::Prune { all, force: _ } => prune(settings, all).await,
    }
}

fn create(settings: &Settings, name: Option<String>) -> anyhow::Result<()> {
    let name = match name {
        Some(name) => name,
        None => places::random()?,
    };
    check_name(&name)?;
    make(settings, &name)?;
    output::line(&name);
    Ok(())
}

fn list(settings: &Settings, quiet: bool) -> anyhow::Result<()> {
    let names = all(settings)?;
    if quiet {
        names.iter().for_each(|name| output::line(name));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = names.into_iter().map(|name| vec!["local".to_owned(), name]).collect();
    output::table(&["DRIVER", "VOLUME NAME"], &rows);
    Ok(())
}

fn inspect(settings: &Settings, names: &[String]) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in names {
        expect(settings, name, false)?;
        let place = directory(settings, name).join(DATA);
        found.push(json!({"Name": name, "Driver": "local", "Mountpoint": place, "Scope": "local"}));
    }
    output::json(&found)
}

async fn prune(settings: &Settings, named_too: bool) -> anyhow::Result<()> {
    let used = in_use(settings).await?;
    for name in all(settings)? {
        let anonymous = directory(settings, &name).join("of").exists();
        if !used.contains(&name) && (named_too || anonymous) {
            remove(settings, &name)?;
            output::line(&name);
        }
    }
    Ok(())
}

fn root(settings: &Settings) -> PathBuf {
    settings.node.data_dir.join("run-volumes")
}

fn directory(settings: &Settings, name: &str) -> PathBuf {
    root(settings).join(name)
}

fn expect(settings: &Settings, name: &str, force: bool) -> anyhow::Result<()> {
    check_name(name)?;
    if !force && !directory(settings, name).exists() {
        bail!("no such volume: {name}");
    }
    Ok(())
}

fn all(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let entries = match std::fs::read_dir(root(settings)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("list volumes"),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Names of the volumes that containers have mounted, running or not.
async fn in_use(settings: &Settings) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let root = root(settings).canonicalize().unwrap_or_else(|_| root(settings));
    for place in places::all(settings)? {
        let Ok(place) = Standalone::at(settings, place).await else { continue };
        for mount in place.status().await?.map(|status| status.mounts).unwrap_or_default() {
            let inside = Path::new(&mount.host_path).strip_prefix(&root).ok();
            names.extend(inside.and_then(|path| Some(path.iter().next()?.to_string_lossy().into_owned())));
        }
    }
    Ok(names)
}

/// Removes one; fine if it is gone.
fn remove(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let path = directory(settings, name);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Err(_) => Ok(()),
        Ok(()) => {
            Journal::of(settings).volume("destroy", name);
            Ok(())
        }
    }
}

/// Volumes without a name of their own that were made for this container.
fn anonymous_of(settings: &Settings, container: &str) -> anyhow::Result<Vec<String>> {
    let mut names = all(settings)?;
    names.retain(|name| {
        std::fs::read_to_string(directory(settings, name).join("of")).is_ok_and(|owner| owner == container)
    });
    Ok(names)
}

/// Removes those, but not what another container has mounted (`--volumes-from`).
pub(super) async fn remove_anonymous(settings: &Settings, container: &str) -> anyhow::Result<()> {
    let names = anonymous_of(settings, container)?;
    let used = if names.is_empty() { BTreeSet::new() } else { in_use(settings).await? };
    names.iter().filter(|name| !used.contains(*name)).try_for_each(|name| remove(settings, name))
}

/// What other containers have mounted, as wishes for the same: `CONTAINER[:ro]` each.
pub(super) async fn of_others(settings: &Settings, names: &[String]) -> anyhow::Result<Vec<Wish>> {
    let mut wishes = Vec::new();
    for text in names {
        let (name, read_only) = volumes_from(text)?;
        let other = Standalone::find(settings, name).await?;
        for mount in other.status().await?.map(|status| status.mounts).unwrap_or_default() {
            if plan::is_own(&mount.container_path) {
                continue;
            }
            let at = At {
                target: mount.container_path,
                read_only: read_only || mount.readonly,
                propagation: mount.propagation,
            };
            wishes.push(Wish::Path { source: mount.host_path.into(), make: false, at });
        }
    }
    Ok(wishes)
}

/// Mounts that are ready, and new volumes that the image is to fill: where they are, and at which place.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) mounts: Vec<Mount>,
    fill: Vec<(PathBuf, String)>,
}

/// Makes what the wishes need.
pub(super) fn prepare(settings: &Settings, container: &str, wishes: &[Wish]) -> anyhow::Result<Ready> {
    let mut ready = Ready::default();
    for wish in wishes {
        match wish {
            Wish::Memory { .. } => {}
            Wish::Path { source, make, at } => {
                host_path(source, *make)?;
                ready.mounts.push(mounted(source.clone(), at));
            }
            Wish::Volume { name, fill, at } => {
                let named = match name {
                    Some(name) => name.clone(),
                    None => places::random()?,
                };
                let path = directory(settings, &named);
                if make(settings, &named)? && *fill {
                    ready.fill.push((path.clone(), at.target.clone()));
                }
                if name.is_none() {
                    std::fs::write(path.join("of"), container)?;
                }
                ready.mounts.push(mounted(path.join(DATA), at));
            }
        }
    }
    Ok(ready)
}

fn mounted(source: PathBuf, at: &At) -> Mount {
    Mount { readonly: at.read_only, propagation: at.propagation, ..plan::bind(source, &at.target) }
}

fn host_path(source: &Path, make: bool) -> anyhow::Result<()> {
    match source.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound && make => {
            std::fs::create_dir_all(source).with_context(|| format!("mkdir {}", source.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                source.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("{}", source.display())),
        Ok(_) => Ok(()),
    }
}

/// Answers whether it is new, or still empty.
fn make(settings: &Settings, name: &str) -> anyhow::Result<bool> {
    let data = directory(settings, name).join(DATA);
    let new = !data.exists();
    std::fs::create_dir_all(&data).with_context(|| format!("mkdir {}", data.display()))?;
    if new {
        Journal::of(settings).volume("create", name);
    }
    Ok(std::fs::read_dir(&data)?.next().is_none())
}

/// Gives new volumes what the image has at their places, owner and mode of the directory included.
pub(super) fn fill(ready: &Ready, rootfs: &Path) -> anyhow::Result<()> {
    let image = Files::open(rootfs)?;
    for (volume, target) in &ready.fill {
        let target = Path::new(target);
        if image.kind(target, true)? != Some(FileKind::Directory) {
            continue;
        }
        // The container mounts it by its path only when it starts.
        std::fs::remove_dir(volume.join(DATA)).with_context(|| format!("{}", volume.display()))?;
        image.copy(target, true, &Files::open(volume)?, Path::new(DATA), None)?;
    }
    Ok(())
}
