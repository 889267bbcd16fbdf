//! Named volumes: directories that outlive containers.
//!
//! ```text
//! DATA_DIR/run-volumes/NAME/_data    the contents; a new volume begins with what the image has at its place. A link, where
//!                                    the volume stands for a directory of this machine (`options`)
//! DATA_DIR/run-volumes/NAME/of       the container that it was made for, where it was given no name
//! DATA_DIR/run-volumes/NAME/labels   its labels, one NAME=VALUE a line, where it has any
//! ```

mod filter;
mod options;

use super::each::each;
use super::plan::mounts::{At, PRIVATE, Wish, check_name, volumes_from};
use super::{Standalone, places, plan, recipe};
use crate::args::{CreateVolume, LsVolumes, Volume as Command};
use crate::events::Journal;
use crate::settings::Settings;
use crate::{confirm, inspection, output, template};
use anyhow::{Context, bail};
use filter::Filters;
use knarr_agent::cri::v1::{ImageSpec, Mount, MountPropagation};
use knarr_agent::engine::additions::Mount as SpecMount;
use knarr_images::{Digest, FileKind, Files};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DATA: &str = "_data";
/// The label of those that were given no name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// One of the volume commands.
pub(super) async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(wanted) => create(settings, wanted),
        Command::Ls(arguments) => list(settings, &arguments).await,
        Command::Inspect { format, names } => inspect(settings, format.as_deref(), &names),
        Command::Rm { force, names } => {
            each(&names, async |name| {
                expect(settings, name, force)?;
                if let Some(users) = users(settings).await?.get(name) {
                    bail!("remove {name}: volume is in use - [{}]", users.join(", "));
                }
                remove(settings, name)?;
                Ok(name.to_owned())
            })
            .await
        }
        Command::Prune { all, filter, force } => {
            let which = if all { "all" } else { "anonymous" };
            let what = format!(" {which} local volumes not used by at least one container.");
            if !confirm::removal(force, &what)? {
                return Ok(());
            }
            let freed = prune(settings, all, &filter).await?;
            output::line(&format!("Total reclaimed space: {}", output::size(freed)));
            Ok(())
        }
    }
}

/// The volume whose contents lie there.
pub(crate) fn name_of(settings: &Settings, path: &Path) -> Option<String> {
    let Ok(inside) = path.strip_prefix(root(settings)) else {
        return standing_for(settings, path).next();
    };
    let (name, rest) = (inside.iter().next()?, inside.iter().nth(1)?);
    (rest == DATA).then(|| name.to_string_lossy().into_owned())
}

fn create(settings: &Settings, wanted: CreateVolume) -> anyhow::Result<()> {
    let mut labels = wanted.label;
    let name = match wanted.name.or(wanted.also_name).filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => {
            labels.push(ANONYMOUS.to_owned());
            nameless()?
        }
    };
    check_name(&name)?;
    let options = options::parse(&wanted.opt)?;
    match options::device(&options)? {
        Some(device) => options::stand_for(&directory(settings, &name), &name, device, &options)?,
        None => drop(make(settings, &name)?),
    }
    if !labels.is_empty() {
        std::fs::write(directory(settings, &name).join("labels"), labels.join("\n"))?;
    }
    output::line(&name);
    Ok(())
}

/// What a volume is called that is given no name: 64 random digits.
fn nameless() -> anyhow::Result<String> {
    Ok(Digest::of(places::random()?.as_bytes()).hex().to_owned())
}

/// Header and field of each column.
const COLUMNS: [(&str, &str); 2] = [("DRIVER", "Driver"), ("VOLUME NAME", "Name")];

async fn list(settings: &Settings, arguments: &LsVolumes) -> anyhow::Result<()> {
    let filters = Filters::parse(&arguments.filter)?;
    let used = if filters.by_use() { in_use(settings).await? } else { BTreeSet::new() };
    let mut rows = Vec::new();
    for name in all(settings)? {
        let labels = labels(settings, &name);
        if filters.hold(&name, &labels, &used) {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            rows.push(json!({
                "Driver": "local", "Name": name, "Labels": labels.join(","), "Scope": "local",
                "Mountpoint": directory(settings, &name).join(DATA), "Links": "N/A", "Size": "N/A",
            }));
        }
    }
    if arguments.quiet {
        rows.iter().for_each(|row| output::line(row["Name"].as_str().unwrap_or_default()));
        return Ok(());
    }
    template::print(&rows, arguments.format.as_deref(), &COLUMNS)
}

fn labels(settings: &Settings, name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(directory(settings, name).join("labels")).unwrap_or_default();
    let pairs = text.lines().map(|line| line.split_once('=').unwrap_or((line, "")));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn inspect(settings: &Settings, format: Option<&str>, names: &[String]) -> anyhow::Result<()> {
    inspection::print(names.iter().map(|name| document(settings, name)).collect(), format)
}

/// The object of `docker volume inspect`.
pub(crate) fn document(settings: &Settings, name: &str) -> anyhow::Result<Value> {
    if check_name(name).is_err() {
        bail!("no such volume: {name}");
    }
    expect(settings, name, false)?;
    let directory = directory(settings, name);
    let made = std::fs::metadata(&directory)?.created().ok();
    let made = made.and_then(|time| jiff::Timestamp::try_from(time).ok());
    let labels = labels(settings, name);
    Ok(json!({
        "CreatedAt": made.and_then(|time| time.round(jiff::Unit::Second).ok()),
        "Driver": "local",
        "Labels": if labels.is_empty() { Value::Null } else { json!(labels) },
        "Mountpoint": directory.join(DATA),
        "Name": name,
        "Options": options::of(&directory),
        "Scope": "local",
    }))
}

/// Removes those that no container uses and prints which; answers how many bytes they had.
pub(crate) async fn prune(settings: &Settings, named_too: bool, filters: &[String]) -> anyhow::Result<u64> {
    let filters = Filters::parse(filters)?;
    let named_too = named_too || filters.of_all();
    let used = in_use(settings).await?;
    let (mut removed, mut freed) = (Vec::new(), 0);
    for name in all(settings)? {
        let labels = labels(settings, &name);
        let anonymous = labels.contains_key(ANONYMOUS) || directory(settings, &name).join("of").exists();
        let wanted = filters.hold(&name, &labels, &used);
        if !used.contains(&name) && (named_too || anonymous) && wanted {
            freed += bytes(settings, &name);
            remove(settings, &name)?;
            removed.push(name);
        }
    }
    if !removed.is_empty() {
        output::line("Deleted Volumes:");
        removed.iter().for_each(|name| output::line(name));
        output::line("");
    }
    Ok(freed)
}

/// Bytes of the files in a volume.
pub(crate) fn bytes(settings: &Settings, name: &str) -> u64 {
    let (mut total, mut left) = (0, vec![directory(settings, name).join(DATA)]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => left.push(entry.path()),
                Ok(data) => total += data.len(),
                Err(_) => {}
            }
        }
    }
    total
}

/// The volumes that stand for this directory of the machine.
fn standing_for(settings: &Settings, path: &Path) -> impl Iterator<Item = String> {
    let stands = |name: &String| options::stands_for(&directory(settings, name).join(DATA), path);
    all(settings).unwrap_or_default().into_iter().filter(stands).collect::<Vec<_>>().into_iter()
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

pub(crate) fn all(settings: &Settings) -> anyhow::Result<Vec<String>> {
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
pub(crate) async fn in_use(settings: &Settings) -> anyhow::Result<BTreeSet<String>> {
    Ok(users(settings).await?.into_keys().collect())
}

/// The same, with the ids of the containers.
async fn users(settings: &Settings) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let root = root(settings).canonicalize().unwrap_or_else(|_| root(settings));
    for place in places::all(settings)? {
        let Ok(place) = Standalone::at(settings, place).await else { continue };
        let status = place.status().await?.unwrap_or_default();
        let mut names = BTreeSet::new();
        for mount in &status.mounts {
            let inside = Path::new(&mount.host_path).strip_prefix(&root).ok();
            names.extend(standing_for(settings, Path::new(&mount.host_path)));
            names.extend(inside.and_then(|path| Some(path.iter().next()?.to_string_lossy().into_owned())));
        }
        names.into_iter().for_each(|name| users.entry(name).or_default().push(status.id.clone()));
    }
    Ok(users)
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
        let parts = recipe::sub_paths(other.data_dir())?;
        for mount in other.status().await?.map(|status| status.mounts).unwrap_or_default() {
            if plan::is_own(&mount.container_path) {
                continue;
            }
            let at = At {
                sub_path: parts.get(&mount.container_path).cloned().unwrap_or_default(),
                target: mount.container_path,
                read_only: read_only || mount.readonly,
                writable_below: mount.readonly && !mount.recursive_read_only,
                propagation: mount.propagation,
                ..At::default()
            };
            if let Some(image) = mount.image {
                wishes.push(Wish::Image { image: image.image, sub_path: mount.image_sub_path, at });
                continue;
            }
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
    /// Parts of volumes, by their places.
    pub(super) sub_paths: BTreeMap<String, String>,
    /// Mounts without what is mounted below their source, in the place of those above.
    pub(super) alone: Vec<SpecMount>,
}

/// Makes what the wishes need. `recursion`: whether the runtime makes mounts read-only with all below them.
pub(super) fn prepare(
    settings: &Settings,
    container: &str,
    wishes: &[Wish],
    recursion: bool,
) -> anyhow::Result<Ready> {
    let mut ready = Ready::default();
    for wish in wishes {
        ready.sub_paths.extend(wish.sub_path());
        match wish {
            Wish::Memory { .. } => {}
            Wish::Path { source, make, at } => {
                host_path(source, *make)?;
                ready.mounts.push(mounted(source.clone(), at, recursion)?);
                ready.alone.extend(at.alone.then(|| without_below(source, at)));
            }
            Wish::Image { image, sub_path, at } => {
                let image = Some(ImageSpec { image: image.clone(), ..ImageSpec::default() });
                let mount = plan::bind(PathBuf::new(), &at.target);
                let image_sub_path = sub_path.clone();
                // What an image holds stays as it is, whoever asks for what.
                ready.mounts.push(Mount { image, image_sub_path, readonly: true, ..mount });
            }
            Wish::Volume { name, fill, at } => {
                let named = match name {
                    Some(name) => name.clone(),
                    None => nameless()?,
                };
                let path = directory(settings, &named);
                if make(settings, &named)? && *fill && at.sub_path.is_empty() {
                    ready.fill.push((path.clone(), at.target.clone()));
                }
                if name.is_none() {
                    std::fs::write(path.join("of"), container)?;
                    std::fs::write(path.join("labels"), ANONYMOUS)?;
                }
                ready.mounts.push(mounted(path.join(DATA), at, recursion)?);
            }
        }
    }
    Ok(ready)
}

/// Linux 5.12 can make a mount read-only with all that is mounted below it; an older one leaves that as it is.
pub(super) fn kernel_reads_recursively() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(12))
}

fn mounted(source: PathBuf, at: &At, recursion: bool) -> anyhow::Result<Mount> {
    if at.read_only_below && !recursion {
        bail!("rro is not supported: neither every kernel nor every runtime can do it");
    }
    let all = at.read_only && !at.writable_below && at.propagation == PRIVATE && recursion;
    Ok(Mount {
        readonly: at.read_only,
        recursive_read_only: all,
        propagation: at.propagation,
        ..plan::bind(source, &at.target)
    })
}

/// The same in the runtime's words: CRI has none for it.
fn without_below(source: &Path, at: &At) -> SpecMount {
    let propagation = match at.propagation {
        PRIVATE => "rprivate",
        number if number == MountPropagation::PropagationBidirectional as i32 => "rshared",
        _ => "rslave",
    };
    let access = if at.read_only { "ro" } else { "rw" };
    SpecMount {
        destination: at.target.clone(),
        fs_type: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        options: ["bind", propagation, access].map(str::to_owned).to_vec(),
        ..SpecMount::default()
    }
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
    if data.is_symlink() {
        // It has what the directory has that it stands for.
        return options::expect(&data).map(|()| false);
    }
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
