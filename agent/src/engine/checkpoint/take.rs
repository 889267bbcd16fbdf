//! Taking a checkpoint: the containers are frozen, their processes and their files are written down, they go on, and what
//! there is of each becomes one archive.

use super::documents::ConfigDump;
use super::{CONFIG, IMAGES, LOG, SPEC, STATUS, TAKING, WRITTEN, make_private, remove};
use crate::engine::blocking::blocking;
use crate::engine::calls::container_status;
use crate::engine::core::{Core, now};
use crate::engine::failures::Failures;
use crate::engine::registry::Container;
use crate::engine::{bundle, oci_runtime::OciRuntime};
use anyhow::Context;
use knarr_images::Files;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;

/// A container that is to be written down, and where.
pub(crate) type Wanted = (Arc<Container>, PathBuf);

/// Writes the archives of running containers, whose gates are held by the caller. Each appears whole, and all of them or
/// none; they are of one moment, for all containers are frozen before the first is written down.
pub(crate) async fn take(core: &Arc<Core>, wanted: &[Wanted], deadline: Duration) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let written = write_down(core, wanted, deadline).await;
    let archives: Vec<_> =
        wanted.iter().map(|(container, location)| (work(core, container), location.clone())).collect();
    let works: Vec<PathBuf> = archives.iter().map(|(work, _)| work.clone()).collect();
    let archived = match written {
        Ok(()) => blocking(move || archive_all(&archives)).await,
        Err(error) => Err(error),
    };
    let dropped = blocking(move || Ok(works.iter().try_for_each(|work| remove(work))?)).await;
    failures.note(&what(wanted), archived);
    failures.note("removing the files of the checkpoint", dropped);
    failures.into_result()
}

fn what(wanted: &[Wanted]) -> String {
    match wanted {
        [(container, _)] => format!("checkpointing container {:?} failed", container.id),
        _ => "checkpointing containers failed".into(),
    }
}

/// By its name the next engine knows that the container may be frozen.
fn work(core: &Core, container: &Container) -> PathBuf {
    core.paths.checkpoint(&format!("{}{TAKING}", container.id))
}

/// The directories come before anything is frozen.
async fn write_down(core: &Arc<Core>, wanted: &[Wanted], deadline: Duration) -> anyhow::Result<()> {
    let works: Vec<PathBuf> = wanted.iter().map(|(container, _)| work(core, container)).collect();
    blocking(move || works.iter().try_for_each(|work| make_anew(work))).await?;
    let Some((first, _)) = wanted.first() else { return Ok(()) };
    let runtime = core.runtime_of(&first.sandbox_id)?;
    let mut frozen = Vec::new();
    let mut failures = Failures::default();
    for (container, _) in wanted {
        match runtime.pause(&container.id).await {
            Ok(()) => frozen.push(container),
            Err(error) => drop(failures.note::<()>("OCI runtime pause failed", Err(error))),
        }
    }
    if frozen.len() == wanted.len() {
        for container in &frozen {
            let dumped = dump_frozen(core, container, &runtime, &work(core, container), deadline).await;
            failures.note("OCI runtime checkpoint failed", dumped);
        }
    }
    for container in frozen {
        failures.note("OCI runtime resume failed", runtime.resume(&container.id).await);
    }
    failures.into_result()
}

fn make_anew(work: &Path) -> anyhow::Result<()> {
    remove(work)?;
    make_private(work).with_context(|| format!("mkdir {}", work.display()))
}

async fn dump_frozen(
    core: &Arc<Core>,
    container: &Arc<Container>,
    runtime: &OciRuntime,
    work: &Path,
    deadline: Duration,
) -> anyhow::Result<()> {
    runtime.checkpoint(&container.id, &work.join(IMAGES), work, deadline).await?;
    let (core, container, work) = (core.clone(), container.clone(), work.to_owned());
    blocking(move || write_documents(&core, &container, &work)).await
}

fn write_documents(core: &Core, container: &Container, work: &Path) -> anyhow::Result<()> {
    let spec = bundle::read_spec(core, &container.id)?;
    let places: Vec<PathBuf> = spec.mounts.iter().map(|mount| PathBuf::from(&mount.destination)).collect();
    let record = container.record.get();
    let sandbox = core.registry.sandbox(&container.sandbox_id)?.record.get();
    write_json(&work.join(SPEC), &spec)?;
    write_json(&work.join(CONFIG), &ConfigDump::of(&record, &sandbox, now()))?;
    write_json(&work.join(STATUS), &container_status::status(&record))?;
    let mut written = File::create(work.join(WRITTEN))?;
    core.images.export_written(&container.id, &places, &mut written).context("what it wrote")?;
    match record.log_path.as_ref().filter(|path| path.exists()) {
        Some(log) => {
            std::fs::copy(log, work.join(LOG)).map(drop).with_context(|| format!("copy {}", log.display()))
        }
        None => Ok(()),
    }
}

fn write_json(path: &Path, document: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(document)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// All are written before the first gets its name: where one cannot be written, what stood in their places stays.
fn archive_all(wanted: &[(PathBuf, PathBuf)]) -> anyhow::Result<()> {
    let written =
        wanted.iter().map(|(work, location)| archive(work, location)).collect::<Result<Vec<_>, _>>()?;
    let mut placed = Vec::new();
    for (file, (_, location)) in written.into_iter().zip(wanted) {
        if let Err(error) = file.persist(location) {
            placed.into_iter().for_each(|earlier: &PathBuf| drop(std::fs::remove_file(earlier)));
            return Err(error).with_context(|| format!("writing {}", location.display()));
        }
        placed.push(location);
    }
    Ok(())
}

/// Only its owner may read it: it holds all that was in the container's memory.
fn archive(work: &Path, location: &Path) -> anyhow::Result<NamedTempFile> {
    let directory = location.parent().unwrap_or(Path::new("/"));
    let place = || format!("writing {}", location.display());
    let mut file = NamedTempFile::new_in(directory).with_context(place)?;
    Files::open(work)?.export(&mut file)?;
    file.as_file().sync_all().with_context(place)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        root: tempfile::TempDir,
        work: PathBuf,
    }

    fn place() -> Place {
        let root = tempfile::tempdir().expect("a directory");
        let work = root.path().join("work");
        std::fs::create_dir(&work).expect("mkdir");
        std::fs::write(work.join("dump"), "memory").expect("write");
        Place { root, work }
    }

    #[test]
    fn an_archive_that_fails_leaves_what_stood_in_the_places_of_all() {
        let place = place();
        let (kept, nowhere) = (place.root.path().join("kept"), place.root.path().join("missing/archive"));
        std::fs::write(&kept, "older").expect("write");
        archive_all(&[(place.work.clone(), kept.clone()), (place.work.clone(), nowhere)])
            .expect_err("no directory");
        assert_eq!(std::fs::read_to_string(&kept).expect("read"), "older");
        assert_eq!(std::fs::read_dir(place.root.path()).expect("list").count(), 2, "nothing else is left");
    }

    #[test]
    fn a_place_that_cannot_be_taken_takes_back_the_others() {
        let place = place();
        let (first, directory) = (place.root.path().join("first"), place.root.path().join("directory"));
        std::fs::create_dir(&directory).expect("mkdir");
        archive_all(&[(place.work.clone(), first.clone()), (place.work.clone(), directory)])
            .expect_err("a directory");
        assert!(!first.exists());
    }
}
