//! A directory or a tar becomes an image of one layer.

use crate::build::config::Draft;
use crate::commit::change;
use crate::content::{ContentStore, put};
use crate::digest::{Digest, Hashing};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::install::{Naming, install_stored, list_image};
use crate::layer::compression::decompress_archive;
use crate::layer::pack::pack;
use crate::manifest::{Descriptor, LayerPlan, Manifest};
use crate::media_type;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::parts::Parts;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// How containers of an imported image start; empty fields are left out of the image's config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportConfig {
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Default program.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where the process starts.
    pub workdir: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Metadata.
    pub labels: BTreeMap<String, String>,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Dockerfile instructions that say more.
    pub changes: Vec<String>,
    /// What for.
    pub message: Option<String>,
    /// What it is for; this machine's where absent.
    pub platform: Option<Platform>,
}

/// Imports under a name, or under none. The same input always gives the same image.
pub(crate) fn import(parts: &Parts, source: &Path, name: &str, config: &ImportConfig) -> Result<Image> {
    let tags = tags(name)?;
    let (file, blob, diff_id) = compress_layer(parts, source)?;
    let config = changed(
        config_document(config, &diff_id, &config.platform.clone().unwrap_or_else(Platform::host))?,
        &blob,
        config,
    )?;
    let config_blob = Descriptor::of(media_type::OCI_CONFIG, &config);
    let manifest = Manifest::oci(config_blob.clone(), vec![blob.clone()], Default::default())?;
    let manifest_digest = Digest::of(&manifest);
    let plan = LayerPlan { blob: blob.clone(), chain_id: diff_id.clone(), diff_id, parent: None };
    let protected = [&blob.digest, &plan.chain_id, &config_blob.digest, &manifest_digest];
    let _lease = parts.leases.take(protected.into_iter())?;
    adopt(parts, file, &blob)?;
    put(&parts.content, &config)?;
    put(&parts.content, &manifest)?;
    install_stored(parts, &plan)?;
    let naming = Naming {
        manifest: manifest_digest,
        index: None,
        config: config_blob.digest,
        size: blob.size + config_blob.size,
        tags,
        digest: None,
    };
    list_image(parts, &[plan], naming)
}

fn tags(name: &str) -> Result<BTreeSet<String>> {
    if name.is_empty() {
        return Ok(BTreeSet::new());
    }
    let tag = Reference::parse(name)?.tagged();
    Ok([tag.ok_or_else(|| Error::invalid(format!("{name}: cannot import under a digest")))?].into())
}

/// The config after the instructions and with the message.
fn changed(document: Vec<u8>, blob: &Descriptor, config: &ImportConfig) -> Result<Vec<u8>> {
    if config.changes.is_empty() && config.message.is_none() {
        return Ok(document);
    }
    let document = serde_json::from_slice(&document).map_err(|e| Error::invalid(e.to_string()))?;
    let mut draft = Draft::of_image(document, vec![blob.clone()])?;
    for text in &config.changes {
        change(&mut draft, text)?;
    }
    if let Some(message) = &config.message {
        draft.comment(message);
    }
    draft.document(None)
}

/// Packs a directory, or takes an archive as it is.
fn compress_layer(parts: &Parts, source: &Path) -> Result<(tempfile::NamedTempFile, Descriptor, Digest)> {
    let meta = std::fs::metadata(source).map_err(|e| Error::path("open", source, e))?;
    compress(parts, |plain| {
        if meta.is_dir() {
            return pack(source, plain);
        }
        let archive = File::open(source).map_err(|e| Error::path("open", source, e))?;
        std::io::copy(&mut decompress_archive(archive)?, plain)
            .map_err(|e| Error::path("read", source, e))
            .map(drop)
    })
}

/// Compresses what `fill` writes into a file of its own, since the name of a blob is known only at its end.
pub(crate) fn compress(
    parts: &Parts,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<(tempfile::NamedTempFile, Descriptor, Digest)> {
    let compressed = Hashing::new(std::io::BufWriter::with_capacity(256 << 10, parts.temporary_file()?));
    let gzip = flate2::write::GzEncoder::new(compressed, flate2::Compression::default());
    let mut plain = Hashing::new(gzip);
    fill(&mut plain)?;
    let failed = |e: std::io::Error| Error::io("compress layer", e);
    plain.flush().map_err(failed)?;
    let (diff_id, _, gzip) = plain.finish();
    let (digest, size, buffer) = gzip.finish().map_err(failed)?.finish();
    let file = buffer.into_inner().map_err(|e| failed(e.into_error()))?;
    Ok((file, Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size), diff_id))
}

/// Gives a finished file its name in the content store, unless the blob is there already.
pub(crate) fn adopt(parts: &Parts, file: tempfile::NamedTempFile, blob: &Descriptor) -> Result<()> {
    if parts.content.stat(&blob.digest)?.is_some() {
        return Ok(());
    }
    let path = parts.content.path(&blob.digest);
    file.persist(&path).map(drop).map_err(|e| Error::path("rename to", &path, e.error))
}

/// The image config. Without a time of its own: importing twice gives one image.
fn config_document(config: &ImportConfig, diff_id: &Digest, platform: &Platform) -> Result<Vec<u8>> {
    let mut run = Map::new();
    let mut set = |key: &str, value: Value, empty: bool| {
        if !empty {
            run.insert(key.to_owned(), value);
        }
    };
    set("User", json!(config.user), config.user.is_empty());
    let ports: BTreeMap<&String, Value> = config.exposed_ports.iter().map(|port| (port, json!({}))).collect();
    set("ExposedPorts", json!(ports), ports.is_empty());
    set("Env", json!(config.env), config.env.is_empty());
    set("Entrypoint", json!(config.entrypoint), config.entrypoint.is_empty());
    set("Cmd", json!(config.cmd), config.cmd.is_empty());
    set("WorkingDir", json!(config.workdir), config.workdir.is_empty());
    set("Labels", json!(config.labels), config.labels.is_empty());
    let mut document = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": platform.architecture,
        "os": platform.os,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "knarr image import"}],
    });
    if let (Some(variant), Some(object)) = (&platform.variant, document.as_object_mut()) {
        object.insert("variant".to_owned(), json!(variant));
    }
    serde_json::to_vec(&document).map_err(|e| Error::invalid(e.to_string()))
}
