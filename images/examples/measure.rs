//! What the store's own work costs, without the rest of a command line: `measure pull ROOT NAME [dir]`,
//! `measure mounts ROOT NAME`, `measure remove ROOT NAME`. Prints milliseconds.

use knarr_images::{Image, ImageStore, LayerKind, Mount, Options, Pull};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: measure pull|mounts|remove ROOT NAME [dir]";
const ROUNDS: usize = 51;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (verb, root, name, layers) = match &arguments[..] {
        [verb, root, name] => (verb, root, name, LayerKind::Auto),
        [verb, root, name, kind] if kind == "dir" => (verb, root, name, LayerKind::Directory),
        _ => return Err(USAGE.into()),
    };
    let started = Instant::now();
    let store = ImageStore::open_with(root.as_ref(), Options { layers, ..Options::default() })?;
    match verb.as_str() {
        "pull" => {
            store.pull(Pull { reference: name.clone(), ..Pull::default() }).await?;
            say("pull", milliseconds(started))
        }
        "mounts" => mounts(&store, &known(&store, name)?),
        "remove" => {
            store.remove(&known(&store, name)?)?;
            say("remove", milliseconds(started))
        }
        _ => Err(USAGE.into()),
    }
}

fn known(store: &ImageStore, name: &str) -> Result<Image> {
    store.find(name)?.ok_or_else(|| format!("{name}: not pulled").into())
}

/// A container's root file system made and taken down: the first one on an image, which mounts its layers, and further
/// ones, which share them.
fn mounts(store: &ImageStore, image: &Image) -> Result<()> {
    let target = tempfile::tempdir()?;
    for (what, shared) in [("first snapshot", false), ("further snapshot", true)] {
        if shared {
            store.prepare("holder", image)?;
        }
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(mount_once(store, image, target.path())?);
        }
        times.sort_by(f64::total_cmp);
        say(what, times.get(ROUNDS / 2).copied().unwrap_or_default())?;
    }
    Ok(store.remove_snapshot("holder")?)
}

fn mount_once(store: &ImageStore, image: &Image, target: &Path) -> Result<f64> {
    let started = Instant::now();
    for mount in store.prepare("measured", image)? {
        mount.mount_at(target)?;
    }
    let taken = milliseconds(started);
    Mount::unmount(target)?;
    store.remove_snapshot("measured")?;
    Ok(taken)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn say(what: &str, milliseconds: f64) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{what} {milliseconds:.2}")?)
}
