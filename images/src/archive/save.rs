//! Writes images as one archive. The same images always give the same bytes.

use crate::archive::{
    DOCKER_MANIFEST, DockerImage, Format, INDEX, NAME_ANNOTATION, OCI_LAYOUT, REF_ANNOTATION,
};
use crate::catalog::Record;
use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::compression::decompress;
use crate::manifest::{Descriptor, Document, Index};
use crate::media_type;
use crate::reference::Reference;
use crate::store::find::find;
use crate::store::parts::Parts;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

/// One image to be saved, and the names it gets in the archive.
struct Saved {
    id: Digest,
    record: Record,
    names: Vec<String>,
}

/// Saves images by the names that were asked for; several names of one image save it once.
pub(crate) fn save(parts: &Parts, names: &[String], format: Format, writer: &mut dyn Write) -> Result<()> {
    let saved = parts.without_collector(|| {
        let saved = select(parts, names)?;
        let digests = saved.iter().flat_map(|image| image.record.content().chain([&image.id]));
        let digests: Vec<Digest> = digests.cloned().collect();
        Ok((saved, digests))
    });
    let (saved, digests) = saved?;
    let _lease = parts.leases.take(digests.iter())?;
    let mut archive = Archive { parts, builder: tar::Builder::new(writer), written: BTreeSet::new() };
    match format {
        Format::Oci => archive.oci(&saved)?,
        Format::Docker => archive.docker(&saved)?,
    }
    archive.builder.finish().map_err(|e| Error::io("write archive", e))
}

fn select(parts: &Parts, names: &[String]) -> Result<Vec<Saved>> {
    let catalog = parts.catalog.read()?;
    let mut saved: Vec<Saved> = Vec::new();
    for name in names {
        let missing = || Error::new(ErrorKind::NotFound, format!("{name}: image not known"));
        let image = find(&catalog, name)?.ok_or_else(missing)?;
        let (id, record) = catalog.expect(&image.id)?;
        let tag = Reference::parse(name).ok().and_then(|reference| reference.tagged());
        let tag = tag.filter(|tag| record.tags.contains(tag));
        match saved.iter_mut().find(|known| known.id == *id) {
            Some(known) => known.names.extend(tag),
            None => {
                let names = tag.into_iter().collect();
                saved.push(Saved { id: id.clone(), record: record.clone(), names });
            }
        }
    }
    Ok(saved)
}

struct Archive<'a> {
    parts: &'a Parts,
    builder: tar::Builder<&'a mut dyn Write>,
    /// Members written so far: shared layers are written once.
    written: BTreeSet<String>,
}

impl Archive<'_> {
    fn member(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(size);
        self.builder
            .append_data(&mut header, name, content)
            .map_err(|e| Error::io(format_args!("write {name}"), e))
    }

    fn document(&mut self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_vec(value).map_err(|e| Error::invalid(format!("{name}: {e}")))?;
        self.member(name, text.len() as u64, &text[..])
    }

    fn blob(&mut self, digest: &Digest) -> Result<u64> {
        let missing = || Error::new(ErrorKind::NotFound, format!("blob {digest}: not found"));
        let size = self.parts.content.stat(digest)?.ok_or_else(missing)?;
        let file = self.parts.content.open(digest)?;
        self.member(&format!("blobs/sha256/{}", digest.hex()), size, file.take(size))?;
        Ok(size)
    }

    /// An OCI layout, with Docker's manifest.json beside its index: Docker loads it too.
    fn oci(&mut self, saved: &[Saved]) -> Result<()> {
        self.member("oci-layout", OCI_LAYOUT.len() as u64, OCI_LAYOUT.as_bytes())?;
        let (mut manifests, mut images) = (Vec::new(), Vec::new());
        for image in saved {
            for digest in image.record.blobs.iter().chain([&image.id]) {
                self.blob(digest)?;
            }
            let size = self.blob(&image.record.manifest)?;
            let descriptor = Descriptor::new(
                &self.media_type(&image.record.manifest)?,
                image.record.manifest.clone(),
                size,
            );
            let named = image
                .names
                .iter()
                .map(|name| Descriptor { annotations: annotations(name), ..descriptor.clone() });
            manifests.extend(named);
            if image.names.is_empty() {
                manifests.push(descriptor);
            }
            let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
            images.push(DockerImage {
                config: path(&image.id),
                repo_tags: Some(image.names.clone()),
                layers: image.record.blobs.iter().map(path).collect(),
            });
        }
        let media_type = media_type::OCI_INDEX.to_owned();
        self.document(
            INDEX,
            &Index { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() },
        )?;
        self.document(DOCKER_MANIFEST, &images)
    }

    fn media_type(&self, manifest: &Digest) -> Result<String> {
        let mut bytes = Vec::new();
        let mut blob = self.parts.content.open(manifest)?;
        blob.read_to_end(&mut bytes).map_err(|e| Error::io(format_args!("read blob {manifest}"), e))?;
        match Document::parse(&bytes, None)? {
            Document::Manifest(manifest) if !manifest.media_type.is_empty() => Ok(manifest.media_type),
            _ => Ok(media_type::OCI_MANIFEST.to_owned()),
        }
    }

    fn docker(&mut self, saved: &[Saved]) -> Result<()> {
        let mut images = Vec::new();
        for image in saved {
            let mut layers = Vec::new();
            for (blob, chain) in image.record.blobs.iter().zip(&image.record.chain) {
                let name = format!("{}/layer.tar", chain.hex());
                self.plain_layer(&name, blob)?;
                layers.push(name);
            }
            let config = format!("{}.json", image.id.hex());
            let size = self.parts.content.stat(&image.id)?.unwrap_or(0);
            self.member(&config, size, self.parts.content.open(&image.id)?.take(size))?;
            images.push(DockerImage { config, repo_tags: Some(image.names.clone()), layers });
        }
        self.document(DOCKER_MANIFEST, &images)
    }

    /// A member's size stands before it, so the layer is decompressed twice: once to be counted.
    fn plain_layer(&mut self, name: &str, blob: &Digest) -> Result<()> {
        if self.written.contains(name) {
            return Ok(());
        }
        let failed = |e| Error::io(format_args!("read blob {blob}"), e);
        let size = std::io::copy(&mut decompress(self.parts.content.open(blob)?)?, &mut std::io::sink());
        let size = size.map_err(failed)?;
        self.member(name, size, decompress(self.parts.content.open(blob)?)?.take(size))
    }
}

fn annotations(name: &str) -> BTreeMap<String, String> {
    let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
    [(NAME_ANNOTATION, name), (REF_ANNOTATION, tag)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
