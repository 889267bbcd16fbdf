//! Taking a checkpoint: the container is frozen, its processes and its files are written down, it goes on, and all of it
//! becomes one archive.

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

/// Writes the archive of a running container, whose gate is held by the caller, to `location`, which appears whole or not
/// at all.
pub(crate) async fn take(
    core: &Arc<Core>,
    container: &Arc<Container>,
    location: PathBuf,
    deadline: Duration,
) -> anyhow::Result<()> {
    let work = core.paths.checkpoint(&format!("{}{TAKING}", container.id));
    let mut failures = Failures::default();
    let written = write_down(core, container, &work, deadline).await;
    let directory = work.clone();
    let archived = match written {
        Ok(()) => blocking(move || archive(&directory, &location)).await,
        Err(error) => Err(error),
    };
    let dropped = blocking(move || Ok(remove(&work)?)).await;
    failures.note(&format!("checkpointing container {:?} failed", container.id), archived);
    failures.note("removing the files of the checkpoint", dropped);
    failures.into_result()
}

/// The directory comes before the container is frozen: by it the next engine knows that it may be.
async fn write_down(
    core: &Arc<Core>,
    container: &Arc<Container>,
    work: &Path,
    deadline: Duration,
) -> anyhow::Result<()> {
    let directory = work.to_owned();
    blocking(move || {
        remove(&directory)?;
        make_private(&directory).with_context(|| format!("mkdir {}", directory.display()))
    })
    .await?;
    let runtime = core.runtime_of(&container.sandbox_id)?;
    runtime.pause(&container.id).await?;
    let dumped = dump_frozen(core, container, &runtime, work, deadline).await;
    let resumed = runtime.resume(&container.id).await;
    let mut failures = Failures::default();
    failures.note("OCI runtime checkpoint failed", dumped);
    failures.note("OCI runtime resume failed", resumed);
    failures.into_result()
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

/// Only its owner may read it: it holds all that was in the container's memory.
fn archive(work: &Path, location: &Path) -> anyhow::Result<()> {
    let directory = location.parent().unwrap_or(Path::new("/"));
    let place = || format!("writing {}", location.display());
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(place)?;
    Files::open(work)?.export(&mut file)?;
    file.as_file().sync_all().with_context(place)?;
    file.persist(location).map(drop).with_context(place)
}
