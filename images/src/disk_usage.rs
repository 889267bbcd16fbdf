//! What each image takes on disk, and how much of it no other image needs.

use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::store::parts::Parts;
use std::collections::HashMap;

/// The disk use of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUsage {
    /// Which one.
    pub image: Image,
    /// Bytes of its blobs and unpacked layers.
    pub total: u64,
    /// Bytes of those that no other image has: what its removal would give back.
    pub unique: u64,
}

/// Blobs (false) and unpacked layers (true), with their bytes.
type Pieces = HashMap<(bool, Digest), u64>;

/// Every image with what it is made of.
fn pieces(parts: &Parts) -> Result<Vec<(Image, Pieces)>> {
    let catalog = parts.catalog.read()?;
    let mut parts_of = Vec::new();
    for (id, record) in &catalog.images {
        let mut pieces = Pieces::new();
        for blob in record.content().chain([id]) {
            pieces.insert((false, blob.clone()), parts.content.stat(blob)?.unwrap_or(0));
        }
        for chain in &record.chain {
            let bytes = parts.layers.record(chain)?.map_or(0, |layer| layer.bytes);
            pieces.insert((true, chain.clone()), bytes);
        }
        parts_of.push((record.image(id), pieces));
    }
    Ok(parts_of)
}

/// Bytes of some images together: what several share counts once.
pub(crate) fn usage_of_images(parts: &Parts, wanted: impl Fn(&Image) -> bool) -> Result<u64> {
    let wanted = pieces(parts)?.into_iter().filter(|(image, _)| wanted(image));
    let all: Pieces = wanted.flat_map(|(_, pieces)| pieces).collect();
    Ok(all.values().sum())
}

/// Every image, the largest first.
pub(crate) fn disk_usage(parts: &Parts) -> Result<Vec<DiskUsage>> {
    let parts_of = pieces(parts)?;
    let mut users: HashMap<(bool, Digest), u32> = HashMap::new();
    let keys = parts_of.iter().flat_map(|(_, pieces)| pieces.keys());
    keys.for_each(|piece| *users.entry(piece.clone()).or_default() += 1);
    let mut usages: Vec<DiskUsage> = parts_of
        .into_iter()
        .map(|(image, pieces)| {
            let own = |piece: &(bool, Digest)| users.get(piece).is_some_and(|count| *count == 1);
            let unique = pieces.iter().filter(|(piece, _)| own(piece)).map(|(_, bytes)| bytes).sum();
            DiskUsage { image, total: pieces.values().sum(), unique }
        })
        .collect();
    usages.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.image.id.cmp(&b.image.id)));
    Ok(usages)
}
