//! An image of the store as the beginning of another.

use crate::build::config::Draft;
use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::inspect::read_json;
use crate::manifest::Manifest;
use crate::media_type;
use crate::store::parts::Parts;

/// Its config and layers. The caller holds a lease on them.
pub(crate) fn draft(parts: &Parts, id: &Digest, record: &Record) -> Result<Draft> {
    let manifest: Manifest = serde_json::from_value(read_json(parts, record.manifest.as_str())?)
        .map_err(|e| Error::invalid(format!("{id}: manifest: {e}")))?;
    let blobs = manifest.layers.into_iter().map(|mut layer| {
        layer.media_type = media_type::oci_layer(&layer.media_type);
        layer
    });
    Draft::of_image(read_json(parts, id.as_str())?, blobs.collect())
}
