//! Manifests and indexes, OCI and Docker schema 2, as they come from an untrusted registry.
//!
//! Bytes are kept exactly as they came (their digest is their name); these types are only a reading of them.
//! A document must be one kind of thing: one that carries both `layers` and `manifests` could be read differently
//! by the two ends of a check (CVE-2021-41190).

use crate::digest::{Digest, chain_ids};
use crate::error::{Error, ErrorKind, Result};
use crate::media_type;
use crate::platform::Platform;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Larger documents are refused before they are read (the distribution spec asks for 4 MiB).
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// A config carries history and labels, nothing large.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// The kernel stacks at most 500 lower layers.
pub(crate) const MAX_LAYERS: usize = 500;

/// A typed, sized pointer to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its address.
    pub digest: Digest,
    /// Its bytes, exactly.
    pub size: u64,
    /// Where foreign layers lie; never followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// In a list of referrers: what the document is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// In an index: which machine the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A plain one.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            artifact_type: String::new(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Manifests for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a reference may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Just enough to see what a document claims to be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads one. `content_type` is what the registry said it was; the document's own word must agree with its
    /// shape.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::invalid(format!("manifest: larger than {MAX_MANIFEST} bytes")));
        }
        let invalid = |error: serde_json::Error| Error::invalid(format!("manifest: {error}"));
        let shape: Shape = serde_json::from_slice(bytes).map_err(invalid)?;
        let claimed = shape.media_type.as_deref().or(content_type).unwrap_or_default();
        if shape.fs_layers.is_some() || shape.schema_version == Some(1) || media_type::is_schema1(claimed) {
            let message = "manifest: Docker schema 1 images are not supported";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if shape.schema_version != Some(2) {
            return Err(Error::invalid("manifest: schemaVersion must be 2"));
        }
        let says_index = [media_type::OCI_INDEX, media_type::DOCKER_INDEX].contains(&claimed);
        let says_manifest = [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].contains(&claimed);
        match (shape.manifests.is_some(), shape.layers.is_some()) {
            (true, true) => Err(Error::invalid("manifest: has both layers and manifests")),
            (true, false) if says_manifest => {
                Err(Error::invalid("manifest: is an index but claims not to be"))
            }
            (false, true) if says_index => Err(Error::invalid("manifest: claims to be an index but is not")),
            (true, false) => Ok(Self::Index(serde_json::from_slice(bytes).map_err(invalid)?)),
            (false, true) => Manifest::parse(bytes).map(Self::Manifest),
            (false, false) => Err(Error::invalid("manifest: has neither layers nor manifests")),
        }
    }
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::invalid(format!("manifest: {error}")))?;
        if manifest.layers.len() > MAX_LAYERS {
            let count = manifest.layers.len();
            return Err(Error::invalid(format!(
                "manifest: {count} layers, at most {MAX_LAYERS} can be stacked"
            )));
        }
        if manifest.config.size > MAX_CONFIG {
            return Err(Error::invalid(format!("manifest: config larger than {MAX_CONFIG} bytes")));
        }
        let total = manifest.layers.iter().try_fold(0u64, |sum, layer| sum.checked_add(layer.size));
        if total.is_none_or(|total| total > i64::MAX as u64) {
            return Err(Error::invalid("manifest: the layers' sizes overflow"));
        }
        Ok(manifest)
    }

    /// Fails unless every layer can be part of a container's root.
    pub(crate) fn check_layers(&self) -> Result<()> {
        self.layers
            .iter()
            .try_for_each(|layer| media_type::check_layer(&layer.media_type, !layer.urls.is_empty()))
    }

    /// Bytes of the config and the compressed layers.
    pub(crate) fn total_size(&self) -> u64 {
        self.layers.iter().fold(self.config.size, |sum, layer| sum.saturating_add(layer.size))
    }

    /// Serialised as an OCI image manifest.
    pub(crate) fn oci(
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Vec<u8>> {
        let media_type = media_type::OCI_MANIFEST.to_owned();
        let manifest = Self { schema_version: 2, media_type, config, layers, annotations };
        serde_json::to_vec(&manifest).map_err(|error| Error::invalid(format!("manifest: {error}")))
    }
}

/// The part of an image's config that the store itself depends on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ConfigCore {
    rootfs: RootFs,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl ConfigCore {
    /// Reads a config and checks it against its manifest before any layer is fetched.
    pub(crate) fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Vec<LayerPlan>> {
        let core: Self = serde_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("not a container image: config: {error}"))
        })?;
        let (diff_ids, layers) = (core.rootfs.diff_ids, &manifest.layers);
        if diff_ids.len() != layers.len() {
            let (ids, layers) = (diff_ids.len(), layers.len());
            return Err(Error::invalid(format!("config: {ids} diff_ids for {layers} layers")));
        }
        let chain = chain_ids(&diff_ids);
        let plan = chain.iter().zip(&diff_ids).zip(layers).enumerate().map(
            |(index, ((chain_id, diff_id), blob))| {
                let parent = index.checked_sub(1).and_then(|below| chain.get(below)).cloned();
                LayerPlan { blob: blob.clone(), diff_id: diff_id.clone(), chain_id: chain_id.clone(), parent }
            },
        );
        Ok(plan.collect())
    }
}

/// One layer of one image: what to fetch, what it must unpack to, and where it then belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerPlan {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
    pub(crate) parent: Option<Digest>,
}

#[cfg(test)]
mod tests;
