//! Manifests in registries as documents, for whoever looks at them or makes lists of them (`knarr manifest`). Nothing of
//! them is kept here, and their bytes are told as they came: their digest is their name.

use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, MAX_CONFIG};
use crate::media_type;
use crate::reference::Reference;
use crate::registry::client::RegistryClient;
use crate::registry::download::document;
use crate::registry::{Registry, Resolved};
use crate::store::parts::Parts;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an image is for, with all that an index can say of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPlatform {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// Of the operating system.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// What it needs of the operating system.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteManifest {
    /// As it was asked for; one of several by its digest too.
    pub name: String,
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Bytes of its text.
    pub size: u64,
    /// What the image is for.
    pub platform: ListedPlatform,
    /// As it came.
    pub text: String,
}

/// What a name stands for in its registry.
#[derive(Debug)]
pub enum Remote {
    /// One image.
    One(RemoteManifest),
    /// A list of them.
    Several(Vec<RemoteManifest>),
}

#[derive(Deserialize)]
struct Listed {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
    #[serde(default)]
    platform: ListedPlatform,
}

/// Asks a registry what a name stands for.
pub(crate) async fn look(parts: Arc<Parts>, name: &str, credentials: Option<Credentials>) -> Result<Remote> {
    let reference = Reference::parse(name)?;
    let registry = parts.registry(&reference, credentials).await?;
    let top = registry.resolve(&reference).await?;
    match Document::parse(&top.bytes, top.content_type.as_deref())? {
        Document::Manifest(manifest) => {
            let platform = platform(&parts, registry.as_ref(), &reference, &manifest.config).await?;
            told(reference.to_string(), top, &manifest.media_type, platform).map(Remote::One)
        }
        Document::Index(_) => {
            let listed: Listed =
                serde_json::from_slice(&top.bytes).map_err(|e| Error::invalid(format!("index: {e}")))?;
            let mut several = Vec::new();
            for entry in listed.manifests {
                let exact = Reference { digest: Some(entry.digest.clone()), ..reference.clone() };
                let found = registry.resolve(&exact).await?;
                let name = format!("{reference}@{}", entry.digest);
                let claimed = Document::parse(&found.bytes, found.content_type.as_deref())?;
                let Document::Manifest(manifest) = claimed else {
                    return Err(Error::invalid("an index inside an index"));
                };
                several.push(told(name, found, &manifest.media_type, entry.platform)?);
            }
            Ok(Remote::Several(several))
        }
    }
}

fn told(name: String, found: Resolved, own: &str, platform: ListedPlatform) -> Result<RemoteManifest> {
    let said = found.content_type.filter(|_| own.is_empty());
    let media_type = said.unwrap_or_else(|| own.to_owned());
    let media_type = if media_type.is_empty() { media_type::OCI_MANIFEST.to_owned() } else { media_type };
    let text = String::from_utf8(found.bytes.to_vec());
    let text = text.map_err(|_| Error::invalid(format!("manifest of {name}: not UTF-8")))?;
    let size = text.len() as u64;
    Ok(RemoteManifest { name, media_type, digest: found.digest.to_string(), size, platform, text })
}

/// What the image's config says; an artifact has none that says anything.
async fn platform(
    parts: &Parts,
    registry: &RegistryClient,
    reference: &Reference,
    config: &Descriptor,
) -> Result<ListedPlatform> {
    if config.size > MAX_CONFIG || !config.media_type.contains("image") {
        return Ok(ListedPlatform::default());
    }
    let bytes = document(registry, reference, config, "config", parts.transport.patience()).await?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Sends an index whose manifests are there already. Answers its digest.
pub(crate) async fn put_index(
    parts: Arc<Parts>,
    name: &str,
    media_type: &str,
    text: String,
    credentials: Option<Credentials>,
) -> Result<String> {
    let reference = Reference::parse(name)?;
    let bytes = Bytes::from(text);
    let digest = Digest::of(&bytes);
    parts.registry(&reference, credentials).await?.put_manifest(&reference, media_type, bytes).await?;
    Ok(digest.to_string())
}
