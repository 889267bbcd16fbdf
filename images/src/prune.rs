//! Which images to remove at once.

use crate::catalog::Record;
use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::store::parts::Parts;
use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which images go. Pinned images and images under a snapshot always stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also images that still have a name; else only those without one.
    pub all: bool,
    /// Only images not pulled or used for this long.
    pub unused_for: Option<Duration>,
    /// Only images with these ids.
    pub only: Option<BTreeSet<String>>,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images that were removed.
    pub images: Vec<Image>,
    /// Bytes given back to the file system.
    pub bytes: u64,
}

pub(crate) fn prune(parts: &Parts, options: &Prune) -> Result<Pruned> {
    let partial = parts.content.forget_partial(Duration::ZERO)?;
    let (images, collected) = parts.update_and_collect(|catalog| {
        let used: HashSet<Digest> =
            parts.snapshots.walk()?.into_iter().filter_map(|(_, parent)| parent).collect();
        let now = SystemTime::now();
        let goes = |record: &Record| {
            let last = record.top().and_then(|top| parts.layers.used(top));
            let last = last.unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH + Duration::from_secs(record.pulled));
            should_go(record, options, &used, now.duration_since(last).unwrap_or_default())
        };
        let gone: Vec<Image> = catalog
            .images
            .iter()
            .filter(|(id, _)| options.only.as_ref().is_none_or(|only| only.contains(id.as_str())))
            .filter(|(_, record)| goes(record))
            .map(|(id, record)| record.image(id))
            .collect();
        catalog.images.retain(|id, _| !gone.iter().any(|image| image.id == id.as_str()));
        Ok(gone)
    })?;
    Ok(Pruned { images, bytes: collected.bytes + partial })
}

fn should_go(record: &Record, options: &Prune, used: &HashSet<Digest>, idle: Duration) -> bool {
    let in_use = record.pinned || record.top().is_some_and(|top| used.contains(top));
    !in_use && (options.all || record.tags.is_empty()) && options.unused_for.is_none_or(|least| idle >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_images_go() {
        let record = |tags: &[&str], pinned: bool| Record {
            manifest: Digest::of(b"m"),
            index: None,
            blobs: Vec::new(),
            chain: vec![Digest::of(b"top")],
            size: 0,
            pinned,
            pulled: 0,
            tags: tags.iter().map(ToString::to_string).collect(),
            digests: Default::default(),
            signatures: Vec::new(),
        };
        let all = Prune { all: true, ..Prune::default() };
        let old = Prune { all: true, unused_for: Some(Duration::from_secs(60)), ..Prune::default() };
        let used = HashSet::from([Digest::of(b"top")]);
        let none = HashSet::new();
        let hour = Duration::from_secs(3600);
        assert!(should_go(&record(&[], false), &Prune::default(), &none, hour));
        assert!(!should_go(&record(&["a"], false), &Prune::default(), &none, hour), "has a name");
        assert!(should_go(&record(&["a"], false), &all, &none, Duration::ZERO));
        assert!(!should_go(&record(&["a"], false), &all, &used, hour), "a container stands on it");
        assert!(!should_go(&record(&["a"], true), &all, &none, hour), "pinned");
        assert!(!should_go(&record(&["a"], false), &old, &none, Duration::from_secs(59)), "used lately");
        assert!(should_go(&record(&["a"], false), &old, &none, hour));
    }
}
