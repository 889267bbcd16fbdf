//! The end of a build: config and manifest are stored, and the image is listed under its names.

use crate::build::config::Draft;
use crate::build::job::Job;
use crate::content::put;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::install::{Naming, list_image};
use crate::manifest::{Descriptor, Manifest};
use crate::media_type;
use crate::store::parts::Parts;
use std::collections::{BTreeMap, BTreeSet};

/// Lists what a build made.
pub(crate) fn list(job: &Job<'_>, draft: &Draft) -> Result<Image> {
    let request = &job.build.request;
    let told = Told { epoch: request.source_date_epoch, annotations: request.annotations.clone() };
    list_draft(job.parts, draft, &job.build.tags, told, &|documents| job.keep_documents(documents))
}

/// What is said of an image besides what it is made of.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// When it was made, if somebody decided that.
    pub(crate) epoch: Option<i64>,
    /// Of its manifest.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Lists the image. One that is there already only gets its new names, without a sync. `keep` protects config and
/// manifest from the collector, just before they are stored.
pub(crate) fn list_draft(
    parts: &Parts,
    draft: &Draft,
    tags: &BTreeSet<String>,
    told: Told,
    keep: &dyn Fn([&Digest; 2]) -> Result<()>,
) -> Result<Image> {
    let config = draft.document(told.epoch)?;
    let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let blobs: Vec<Descriptor> = draft.layers.iter().map(|layer| layer.blob.clone()).collect();
    let size = blobs.iter().map(|blob| blob.size).sum::<u64>() + descriptor.size;
    let manifest = Manifest::oci(descriptor.clone(), blobs, told.annotations)?;
    let (id, manifest_digest) = (descriptor.digest, Digest::of(&manifest));
    let known = parts.update(|catalog| {
        let same = catalog.images.get(&id).is_some_and(|record| record.manifest == manifest_digest);
        if same {
            for tag in tags {
                catalog.release(tag);
            }
        }
        Ok(catalog.images.get_mut(&id).filter(|_| same).map(|record| {
            record.tags.extend(tags.iter().cloned());
            record.image(&id)
        }))
    })?;
    if let Some(image) = known {
        return Ok(image);
    }
    keep([&id, &manifest_digest])?;
    put(&parts.content, &config)?;
    put(&parts.content, &manifest)?;
    let tags = tags.clone();
    let naming = Naming { manifest: manifest_digest, index: None, config: id, size, tags, digest: None };
    list_image(parts, &draft.layers, naming)
}
