//! Push and copy: layers in parallel, then the config, then the manifest, so that a registry never holds a manifest
//! whose parts are missing.

use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Progress, tell};
use crate::inspect::read_bytes;
use crate::manifest::{Descriptor, Document, Index, MAX_MANIFEST, Manifest};
use crate::media_type;
use crate::platform::Platform;
use crate::pull::blocking;
use crate::reference::Reference;
use crate::registry::{BlobSource, Registry};
use crate::store::parts::Parts;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{FuturesUnordered, iter};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// Blobs sent at the same time.
const PARALLEL: usize = 4;

/// Sends an image under a name.
pub(crate) async fn push(
    parts: Arc<Parts>,
    image: &Image,
    name: &str,
    credentials: Option<Credentials>,
    progress: Option<UnboundedSender<Progress>>,
) -> Result<String> {
    let reference = Reference::parse(name)?;
    let id = image.id.clone();
    let store = parts.clone();
    let (bytes, digest, names) = blocking(move || {
        let catalog = store.catalog.read()?;
        let (_, record) = catalog.expect(&id)?;
        let bytes = Bytes::from(read_bytes(&store, &record.manifest, MAX_MANIFEST)?);
        Ok((bytes, record.manifest.clone(), record.digests.clone()))
    })
    .await?;
    let Document::Manifest(manifest) = Document::parse(&bytes, None)? else {
        return Err(Error::invalid("push: the image's manifest is an index"));
    };
    let registry = parts.registry(&reference, credentials).await?;
    let layers = manifest.layers.iter().map(|layer| (layer.digest.to_string(), layer.size)).collect();
    tell(progress.as_ref(), Progress::Resolved { digest: digest.to_string(), layers });
    let siblings = siblings(&names, &reference);
    let send = Sending { registry: registry.as_ref(), reference: &reference, siblings: &siblings };
    let source = |blob: &Descriptor| BlobSource::File(parts.content.path(&blob.digest));
    send.blobs(&manifest.layers, &source, progress.as_ref()).await?;
    send.blobs(std::slice::from_ref(&manifest.config), &source, None).await?;
    registry.put_manifest(&reference, media_type_of(&manifest), bytes).await?;
    let (named, id) = (format!("{}@{digest}", reference.name()), image.id.clone());
    blocking(move || {
        parts.update(|catalog| {
            let record = catalog.images.iter_mut().find(|(known, _)| known.as_str() == id);
            if let Some((_, record)) = record {
                record.digests.insert(named);
            }
            Ok(())
        })
    })
    .await?;
    Ok(digest.to_string())
}

/// Sends images for several platforms under one name: each by its digest, then an index of them.
pub(crate) async fn push_index(
    parts: Arc<Parts>,
    images: &[(Image, Platform)],
    name: &str,
    credentials: Option<Credentials>,
    progress: Option<UnboundedSender<Progress>>,
) -> Result<String> {
    let reference = Reference::parse(name)?;
    let mut manifests = Vec::new();
    for (image, platform) in images {
        let (store, id) = (parts.clone(), image.id.clone());
        let (bytes, digest) = blocking(move || {
            let catalog = store.catalog.read()?;
            let (_, record) = catalog.expect(&id)?;
            Ok((read_bytes(&store, &record.manifest, MAX_MANIFEST)?, record.manifest.clone()))
        })
        .await?;
        let exact = format!("{}@{digest}", reference.name());
        push(parts.clone(), image, &exact, credentials.clone(), progress.clone()).await?;
        let size = bytes.len() as u64;
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, size);
        manifests.push(Descriptor { platform: Some(platform.clone()), ..descriptor });
    }
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests,
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&index).map_err(|e| Error::invalid(e.to_string()))?;
    let digest = Digest::of(&bytes);
    let registry = parts.registry(&reference, credentials).await?;
    registry.put_manifest(&reference, media_type::OCI_INDEX, bytes.into()).await?;
    Ok(digest.to_string())
}

/// Repositories of the same registry from which the image's blobs can be shared.
fn siblings(digests: &std::collections::BTreeSet<String>, to: &Reference) -> Vec<String> {
    let known = digests.iter().filter_map(|name| Reference::parse(name).ok());
    let mut repositories: Vec<String> = known
        .filter(|known| known.registry == to.registry && known.repository != to.repository)
        .map(|known| known.repository)
        .collect();
    repositories.dedup();
    repositories
}

fn media_type_of(manifest: &Manifest) -> &str {
    if manifest.media_type.is_empty() { media_type::OCI_MANIFEST } else { &manifest.media_type }
}

struct Sending<'a> {
    registry: &'a dyn Registry,
    reference: &'a Reference,
    siblings: &'a [String],
}

impl Sending<'_> {
    async fn blobs(
        &self,
        blobs: &[Descriptor],
        source: &(dyn Fn(&Descriptor) -> BlobSource + Sync),
        progress: Option<&UnboundedSender<Progress>>,
    ) -> Result<()> {
        let mut sending = iter(blobs.iter().map(|blob| async move {
            let already_present = self.blob(blob, source).await?;
            tell(progress, Progress::Done { layer: blob.digest.to_string(), already_present });
            Ok::<(), Error>(())
        }))
        .buffer_unordered(PARALLEL);
        while let Some(sent) = sending.next().await {
            sent?;
        }
        Ok(())
    }

    /// True where nothing had to be sent.
    async fn blob(
        &self,
        blob: &Descriptor,
        source: &(dyn Fn(&Descriptor) -> BlobSource + Sync),
    ) -> Result<bool> {
        if self.registry.has_blob(self.reference, &blob.digest).await? {
            return Ok(true);
        }
        for sibling in self.siblings {
            if self.registry.mount_blob(self.reference, &blob.digest, sibling).await? {
                return Ok(true);
            }
        }
        self.registry.put_blob(self.reference, blob, source(blob)).await?;
        Ok(false)
    }
}

/// Copies a name from one registry to another: an index with all its manifests, blobs streamed through.
pub(crate) async fn copy(
    parts: Arc<Parts>,
    from: (&str, Option<Credentials>),
    to: (&str, Option<Credentials>),
) -> Result<String> {
    let (from_name, to_name) = (Reference::parse(from.0)?, Reference::parse(to.0)?);
    let source = parts.registry(&from_name, from.1).await?;
    let target = parts.registry(&to_name, to.1).await?;
    let same_registry = from_name.registry == to_name.registry && from_name.repository != to_name.repository;
    let siblings: Vec<String> = same_registry.then(|| from_name.repository.clone()).into_iter().collect();
    let copying = Copying { source, from: from_name.clone(), siblings };
    let top = copying.source.resolve(&from_name).await?;
    let send = Sending { registry: target.as_ref(), reference: &to_name, siblings: &copying.siblings };
    let media_type = match Document::parse(&top.bytes, top.content_type.as_deref())? {
        Document::Manifest(manifest) => {
            copying.image(&manifest, &send).await?;
            media_type_of(&manifest).to_owned()
        }
        Document::Index(index) => {
            let mut manifests: FuturesUnordered<_> =
                index.manifests.iter().map(|descriptor| copying.manifest(descriptor, &send)).collect();
            while let Some(copied) = manifests.next().await {
                copied?;
            }
            let known = if index.media_type.is_empty() { media_type::OCI_INDEX } else { &index.media_type };
            known.to_owned()
        }
    };
    if to_name.digest.as_ref().is_some_and(|digest| *digest != top.digest) {
        return Err(Error::new(ErrorKind::Mismatch, format!("{to_name}: the source is {}", top.digest)));
    }
    send.registry.put_manifest(&to_name, &media_type, top.bytes).await?;
    Ok(top.digest.to_string())
}

struct Copying {
    source: Arc<crate::registry::client::RegistryClient>,
    from: Reference,
    siblings: Vec<String>,
}

impl Copying {
    async fn manifest(&self, descriptor: &Descriptor, send: &Sending<'_>) -> Result<()> {
        let exact = |name: &Reference| Reference { digest: Some(descriptor.digest.clone()), ..name.clone() };
        let resolved = self.source.resolve(&exact(&self.from)).await?;
        let Document::Manifest(manifest) =
            Document::parse(&resolved.bytes, resolved.content_type.as_deref())?
        else {
            return Err(Error::invalid("copy: an index inside an index"));
        };
        self.image(&manifest, send).await?;
        send.registry.put_manifest(&exact(send.reference), media_type_of(&manifest), resolved.bytes).await
    }

    /// Blobs are copied whatever they are: artifacts travel too.
    async fn image(&self, manifest: &Manifest, send: &Sending<'_>) -> Result<()> {
        let source = |_: &Descriptor| BlobSource::Remote(self.source.clone(), self.from.clone());
        send.blobs(&manifest.layers, &source, None).await?;
        send.blobs(std::slice::from_ref(&manifest.config), &source, None).await
    }
}
