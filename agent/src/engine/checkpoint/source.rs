//! What a new container goes on from: an archive named by its path in the place of an image, or an image that holds what
//! such an archive holds and says so in an annotation.

use super::documents::{ConfigDump, missing_mounts};
use super::{CONFIG, IMAGES, LOG, SPEC, make_private};
use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::records::ContainerRecord;
use anyhow::Context;
use knarr_cri::Status;
use knarr_images::{Files, Image, Pull};
use knarr_runtime::spec::Spec;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Annotations of a manifest that name the container whose checkpoint the image holds: of today, and of CRI-O before.
const ANNOTATIONS: [&str; 2] =
    ["org.criu.checkpoint.container.name", "io.kubernetes.cri-o.annotations.checkpoint.name"];

enum Source {
    Archive(PathBuf),
    Image(Image),
}

/// Lays out the checkpoint that `name` means for container `id`, and answers the image that it stands on; nothing where
/// `name` is an ordinary image, or unknown.
pub(crate) async fn lay_out(core: &Arc<Core>, id: &str, name: &str) -> anyhow::Result<Option<Image>> {
    let (shared, own, wanted) = (core.clone(), id.to_owned(), name.to_owned());
    let found = blocking(move || {
        let Some(source) = find(&shared, &wanted)? else { return Ok(None) };
        lay_out_source(&shared, &own, &source, &wanted).map(Some)
    });
    match found.await? {
        Some(dump) => base(core, &dump).await.map(Some),
        None => Ok(None),
    }
}

/// The same for an archive that has to be there.
pub(crate) async fn lay_out_archive(core: &Arc<Core>, id: &str, archive: PathBuf) -> anyhow::Result<Image> {
    let (shared, own) = (core.clone(), id.to_owned());
    let name = archive.display().to_string();
    let laid = blocking(move || lay_out_source(&shared, &own, &Source::Archive(archive), &name));
    base(core, &laid.await?).await
}

fn lay_out_source(core: &Core, id: &str, source: &Source, name: &str) -> anyhow::Result<ConfigDump> {
    unpack(core, id, source).with_context(|| format!("unpacking of checkpoint {name} failed"))?;
    read_json(&core.paths.checkpoint(id).join(CONFIG))
}

fn find(core: &Core, name: &str) -> anyhow::Result<Option<Source>> {
    if name.starts_with('/') {
        let archive = PathBuf::from(name);
        return Ok(archive.is_file().then_some(Source::Archive(archive)));
    }
    let Some(image) = core.images.find(name)? else { return Ok(None) };
    let annotations = core.images.annotations(&image)?;
    let is_one = ANNOTATIONS.iter().any(|annotation| annotations.contains_key(*annotation));
    Ok(is_one.then_some(Source::Image(image)))
}

fn unpack(core: &Core, id: &str, source: &Source) -> anyhow::Result<()> {
    let directory = core.paths.checkpoint(id);
    make_private(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
    match source {
        Source::Archive(path) => Files::open(&directory)?.import(&mut File::open(path)?)?,
        Source::Image(image) => core.images.with_files(image, |files| files.export_to(&directory))?,
    }
    only_files(&directory)?;
    let images = directory.join(IMAGES);
    anyhow::ensure!(images.is_dir(), "{IMAGES}: no such directory in it");
    // What was unpacked has the archive's modes.
    std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// What was unpacked is read by its path, by criu too, with all rights of the host: a link in it would lead there, and a
/// device or a pipe be opened.
fn only_files(directory: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        anyhow::ensure!(
            kind.is_file() || kind.is_dir(),
            "{}: neither a file nor a directory",
            name.display()
        );
        if kind.is_dir() {
            only_files(&entry.path())?;
        }
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let name = path.file_name().unwrap_or_default().display();
    let text = std::fs::read(path).with_context(|| format!("failed to read {name}"))?;
    serde_json::from_slice(&text).with_context(|| format!("failed to read {name}"))
}

/// The image that the container stood on; it is pulled where it is not there, as nobody else knows that it is needed.
async fn base(core: &Arc<Core>, dump: &ConfigDump) -> anyhow::Result<Image> {
    let names: Vec<String> = dump.image_names().into_iter().map(str::to_owned).collect();
    let (shared, known) = (core.clone(), names.clone());
    let found = blocking(move || {
        for name in &known {
            if let Some(image) = shared.images.find(name)? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    });
    if let Some(image) = found.await? {
        return Ok(image);
    }
    let Some(name) = names.first() else {
        return Err(Status::invalid_argument(format!("{CONFIG} names no image")).into());
    };
    let pull = Pull { reference: name.clone(), ..Pull::default() };
    core.images.pull(pull).await.with_context(|| format!("failed to get checkpoint base image {name}"))
}

/// The new container as the checkpoint wants it: with every place of the host that its processes knew, and with its log.
pub(crate) fn fit(core: &Core, record: &ContainerRecord, spec: &Spec) -> anyhow::Result<()> {
    let directory = core.paths.checkpoint(&record.id);
    let old: Spec = read_json(&directory.join(SPEC))?;
    let missing = missing_mounts(&old, spec);
    if !missing.is_empty() {
        let places = missing.join(", ");
        return Err(Status::invalid_argument(format!(
            "the checkpoint has mounts that the container has not: {places}"
        ))
        .into());
    }
    match &record.log_path {
        Some(log) if directory.join(LOG).is_file() => std::fs::copy(directory.join(LOG), log)
            .map(drop)
            .with_context(|| format!("restoring container log file {}", log.display())),
        _ => Ok(()),
    }
}
