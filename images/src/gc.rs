//! Takes away what nothing refers to: blobs and layers without an image, a snapshot or a lease.
//!
//! Marking and taking away happen under the store's exclusive lock and are only renames, so nobody waits long; the
//! files are deleted afterwards. Nobody may look for a blob or layer and then rely on it without a lease, an image
//! record or a snapshot that was written under the same lock: that is the whole rule against races.

use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::removal::remove_path;
use crate::lock::FileLock;
use crate::store::parts::Parts;
use std::collections::HashSet;
use std::path::Path;

/// What a collection took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) bytes: u64,
}

/// Collects. The caller holds the store's lock exclusively.
pub(crate) fn collect(parts: &Parts) -> Result<Collected> {
    let (blobs, layers) = roots(parts)?;
    let mut collected = Collected::default();
    for (digest, size) in parts.content.walk()? {
        if !blobs.contains(&digest) {
            parts.content.remove(&digest)?;
            collected.bytes += size;
        }
    }
    for chain in parts.layers.walk()? {
        if !layers.contains(&chain) {
            collected.bytes += parts.layers.record(&chain).ok().flatten().map_or(0, |record| record.bytes);
            parts.layers.remove(&chain)?;
        }
    }
    Ok(collected)
}

/// Everything that something refers to.
fn roots(parts: &Parts) -> Result<(HashSet<Digest>, HashSet<Digest>)> {
    let mut blobs = parts.leases.protected()?;
    let mut tops: HashSet<Digest> = blobs.clone();
    for (id, record) in &parts.catalog.read()?.images {
        blobs.insert(id.clone());
        blobs.extend(record.content().cloned());
        tops.extend(record.top().cloned());
    }
    for entry in crate::build::cache::Cache::open(&parts.root)?.entries()? {
        blobs.insert(entry.blob.digest);
        tops.insert(entry.chain_id);
    }
    tops.extend(parts.snapshots.walk()?.into_iter().filter_map(|(_, parent)| parent));
    Ok((blobs, with_all_beneath(parts, tops)?))
}

/// The layers that snapshots stand on.
pub(crate) fn under_snapshots(parts: &Parts) -> Result<HashSet<Digest>> {
    with_all_beneath(parts, parts.snapshots.walk()?.into_iter().filter_map(|(_, parent)| parent))
}

fn with_all_beneath(parts: &Parts, tops: impl IntoIterator<Item = Digest>) -> Result<HashSet<Digest>> {
    let mut layers = HashSet::new();
    for top in tops {
        let mut next = Some(top);
        while let Some(chain) = next.take().filter(|chain| !layers.contains(chain)) {
            let record = parts.layers.record(&chain)?;
            layers.insert(chain);
            if let Some(record) = record {
                next = record.parent.filter(|_| record.beneath.is_empty());
                layers.extend(record.beneath);
            }
        }
    }
    Ok(layers)
}

/// Deletes what was taken away, one process or thread after the other: two that walk one tree trip over each other.
/// What cannot be deleted does not keep the rest; the first error is returned.
pub(crate) fn empty_trash(trash: &Path) -> Result<()> {
    let _alone = FileLock::exclusive(&trash.with_extension("lock"))?;
    let failed = |e| Error::path("readdir", trash, e);
    let mut result = Ok(());
    for entry in std::fs::read_dir(trash).map_err(failed)? {
        let removed = remove_path(&entry.map_err(failed)?.path());
        result = result.and(removed);
    }
    result
}
