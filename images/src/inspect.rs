//! Everything known about an image, for `knarr image inspect` and its history.

use crate::Image;
use serde_json::Value;

/// An image with the documents behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspect {
    /// Names, id, size.
    pub image: Image,
    /// Digest of the manifest that lists the layers.
    pub manifest_digest: String,
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
