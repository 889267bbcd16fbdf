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

/// Lists the image. One that is there already only gets its new names, without a sync.
pub(crate) fn list(job: &Job<'_>, draft: &Draft) -> Result<Image> {
    let (parts, build) = (job.parts, job.build);
    let config = draft.document(build.request.source_date_epoch)?;
    let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let blobs: Vec<Descriptor> = draft.layers.iter().map(|layer| layer.blob.clone()).collect();
    let size = blobs.iter().map(|blob| blob.size).sum::<u64>() + descriptor.size;
    let manifest = Manifest::oci(descriptor.clone(), blobs)?;
    let (id, manifest_digest) = (descriptor.digest, Digest::of(&manifest));
    let known = parts.update(|catalog| {
        let same = catalog.images.get(&id).is_some_and(|record| record.manifest == manifest_digest);
        if same {
            for tag in &build.tags {
                catalog.release(tag);
            }
        }
        Ok(catalog.images.get_mut(&id).filter(|_| same).map(|record| {
            record.tags.extend(build.tags.iter().cloned());
            record.image(&id)
        }))
    })?;
    if let Some(image) = known {
        return Ok(image);
    }
    job.keep_documents([&id, &manifest_digest])?;
    put(&parts.content, &config)?;
    put(&parts.content, &manifest)?;
    let tags = build.tags.clone();
    let naming = Naming { manifest: manifest_digest, index: None, config: id, size, tags, digest: None };
    list_image(parts, &draft.layers, naming)
}
