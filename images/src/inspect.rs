//! Everything known about an image, for `knarr image inspect` and its history.

use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::manifest::MAX_CONFIG;
use crate::store::parts::Parts;
use serde_json::Value;
use std::io::Read;

/// An image with the documents behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspect {
    /// Names, id, size.
    pub image: Image,
    /// Digest of the manifest that lists the layers.
    pub manifest_digest: String,
    /// Its bytes.
    pub manifest_size: u64,
    /// That manifest as it came.
    pub manifest: Value,
    /// The image's config as it came.
    pub config: Value,
    /// Bottom layer first.
    pub layers: Vec<LayerInfo>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of the blob as the registry holds it.
    pub digest: String,
    /// Digest of the uncompressed archive.
    pub diff_id: String,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes and inodes of the unpacked layer.
    pub unpacked: (u64, u64),
}

/// A small document by its digest, checked.
pub(crate) fn read_json(parts: &Parts, digest: &str) -> Result<Value> {
    let digest = Digest::parse(digest)?;
    let bytes = read_bytes(parts, &digest, MAX_CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::new(ErrorKind::Invalid, format!("blob {digest}: {e}")))
}

/// The bytes of a small blob, checked against its digest.
pub(crate) fn read_bytes(parts: &Parts, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let failed = |e| Error::io(format_args!("read blob {digest}"), e);
    parts.content.open(digest)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    digest.verify(&Digest::of(&bytes), "blob")?;
    Ok(bytes)
}

pub(crate) fn inspect(parts: &Parts, image: &Image) -> Result<Inspect> {
    let catalog = parts.catalog.read()?;
    let (id, record) = catalog.expect(&image.id)?;
    let mut layers = Vec::new();
    for (blob, chain) in record.blobs.iter().zip(&record.chain) {
        let layer = parts.layers.record(chain)?;
        let layer =
            layer.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("layer {chain}: not found")))?;
        layers.push(LayerInfo {
            digest: blob.to_string(),
            diff_id: layer.diff_id.to_string(),
            size: parts.content.stat(blob)?.unwrap_or(0),
            unpacked: (layer.bytes, layer.inodes),
        });
    }
    Ok(Inspect {
        image: record.image(id),
        manifest_digest: record.manifest.to_string(),
        manifest_size: parts.content.stat(&record.manifest)?.unwrap_or(0),
        manifest: read_json(parts, record.manifest.as_str())?,
        config: read_json(parts, id.as_str())?,
        layers,
    })
}
