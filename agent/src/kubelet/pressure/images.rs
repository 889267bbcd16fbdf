//! Which images nobody uses, since when, and their removal when space is short: those unused for longest first.

use super::thresholds::Reading;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::{Image, ImageSpec, ListContainersRequest, ListImagesRequest, RemoveImageRequest};
use knarr_cri::{ImageService, RuntimeService};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is known of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    first_seen: Timestamp,
    last_used: Timestamp,
    in_use: bool,
    pinned: bool,
    size: u64,
}

/// Remembers when images were used.
pub(super) struct ImageCollector {
    images: Arc<dyn ImageService>,
    runtime: Arc<dyn RuntimeService>,
    /// By image id.
    records: BTreeMap<String, Record>,
    /// What was used before then is not known.
    began: Timestamp,
}

/// How much must go for a disk fuller than `high` percent to become as full as `low` percent.
pub(super) fn bytes_to_free(space: Reading, high: u64, low: u64) -> u64 {
    let used = space.capacity.saturating_sub(space.available);
    let percent = |part: u64| u128::from(space.capacity) * u128::from(part) / 100;
    if u128::from(used) < percent(high) {
        return 0;
    }
    used.saturating_sub(u64::try_from(percent(low)).unwrap_or(u64::MAX))
}

/// What is said where too little could be freed, in the kubelet's words.
pub(super) fn too_little(space: Reading, freed: u64) -> String {
    let free = u128::from(space.available) * 100 / u128::from(space.capacity.max(1));
    format!(
        "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
        100_u128.saturating_sub(free),
        size(space.capacity)
    )
}

/// One digit after the point, as the kubelet prints sizes.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    let Some(unit) = power.checked_sub(1).and_then(|index| units.get(index as usize)) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10 + (1 << (10 * power - 1))) >> (10 * power);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

impl ImageCollector {
    pub(super) fn new(
        images: Arc<dyn ImageService>,
        runtime: Arc<dyn RuntimeService>,
        began: Timestamp,
    ) -> ImageCollector {
        ImageCollector { images, runtime, records: BTreeMap::new(), began }
    }

    /// Notes which images there are and which are in use. A runtime that does not answer leaves all as it was.
    pub(super) async fn look(&mut self, pods: &[Arc<Pod>], now: Timestamp) {
        let listed = within(CALL_DEADLINE, self.images.list_images(ListImagesRequest::default())).await;
        let used =
            within(CALL_DEADLINE, self.runtime.list_containers(ListContainersRequest::default())).await;
        let (Ok(listed), Ok(containers)) = (listed, used) else { return };
        let mut used: BTreeSet<String> = BTreeSet::new();
        for container in containers.containers {
            used.insert(container.image_ref);
            used.insert(container.image_id);
            used.extend(container.image.map(|image| image.image));
        }
        used.extend(names_in_pods(pods));
        note(&mut self.records, &listed.images, &used, now);
    }

    /// Removes unused images until so many bytes are free; answers how many are.
    pub(super) async fn free(&mut self, bytes: u64, least_age: Duration, now: Timestamp) -> u64 {
        let mut freed = 0;
        for id in candidates(&self.records, least_age, now) {
            if freed >= bytes {
                break;
            }
            freed += self.remove(&id).await;
        }
        freed
    }

    /// Removes what nobody has used for as long as `end`.
    pub(super) async fn remove_old(&mut self, end: Duration, now: Timestamp) {
        for id in outdated(&self.records, end, self.began, now) {
            let freed = self.remove(&id).await;
            tracing::info!(image = id, freed, "unused for {} s: removed", end.as_secs());
        }
    }

    /// Answers how many bytes that frees.
    async fn remove(&mut self, id: &str) -> u64 {
        let image = Some(ImageSpec { image: id.to_owned(), ..Default::default() });
        match within(CALL_DEADLINE, self.images.remove_image(RemoveImageRequest { image })).await {
            Ok(_) => self.records.remove(id).map_or(0, |record| record.size),
            Err(status) => {
                tracing::warn!(image = id, "not removed: {}", status.message());
                0
            }
        }
    }
}

/// Images that pods of this node name, also while no container was made of them yet.
fn names_in_pods(pods: &[Arc<Pod>]) -> Vec<String> {
    let living = || pods.iter().filter(|pod| !pod::is_finished(pod));
    let containers = living().flat_map(|pod| pod::containers(pod).filter_map(|(_, c)| c.image.clone()));
    let volumes = living().flat_map(|pod| pod::spec(pod).volumes.iter().flatten());
    let volumes = volumes.filter_map(|volume| volume.image.as_ref()?.reference.clone());
    containers.chain(volumes).collect()
}

fn note(records: &mut BTreeMap<String, Record>, images: &[Image], used: &BTreeSet<String>, now: Timestamp) {
    records.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in images {
        let mut names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
        let in_use = names.any(|name| {
            used.contains(name) || name.strip_suffix(":latest").is_some_and(|name| used.contains(name))
        });
        let fresh = Record {
            first_seen: now,
            last_used: Timestamp::UNIX_EPOCH,
            in_use,
            pinned: image.pinned,
            size: image.size,
        };
        let record = records.entry(image.id.clone()).or_insert(fresh);
        (record.in_use, record.size, record.pinned) = (in_use, image.size, image.pinned);
        if in_use {
            record.last_used = now;
        }
    }
}

/// What nobody has used for longer than `end`; nothing until this has been watched for so long.
fn outdated(
    records: &BTreeMap<String, Record>,
    end: Duration,
    began: Timestamp,
    now: Timestamp,
) -> Vec<String> {
    let since = |time: Timestamp| Duration::try_from(now.duration_since(time)).unwrap_or_default();
    if since(began) <= end {
        return Vec::new();
    }
    let mut unused = candidates(records, Duration::ZERO, now);
    unused.retain(|id| records.get(id).is_some_and(|record| since(record.last_used) > end));
    unused
}

/// Unused for longest first; those used last at the same time, older ones first.
fn candidates(records: &BTreeMap<String, Record>, least_age: Duration, now: Timestamp) -> Vec<String> {
    let old_enough = |record: &Record| {
        Duration::try_from(now.duration_since(record.first_seen)).unwrap_or_default() >= least_age
    };
    let unused = records.iter().filter(|(_, r)| !r.in_use && !r.pinned && old_enough(r));
    let mut unused: Vec<_> = unused.collect();
    unused.sort_by_key(|(_, record)| (record.last_used, record.first_seen));
    unused.into_iter().map(|(id, _)| id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str) -> Image {
        Image { id: id.into(), repo_tags: vec![format!("r/{id}:latest")], size: 10, ..Default::default() }
    }

    #[test]
    fn how_much_must_go() {
        let space = |available| Reading { available, capacity: 100 };
        assert_eq!(bytes_to_free(space(16), 85, 80), 0);
        assert_eq!(bytes_to_free(space(15), 85, 80), 5);
        assert_eq!(bytes_to_free(space(0), 85, 80), 20);
    }

    #[test]
    fn what_could_not_be_freed_is_told_in_the_kubelets_words() {
        let said = too_little(Reading { available: 1 << 30, capacity: 10 << 30 }, 7);
        let begins =
            "Insufficient free disk space on the node's image filesystem (90% of 10.0 GiB used). Failed";
        assert!(said.starts_with(begins) && said.contains("(freed 7 bytes)"), "{said}");
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn what_nobody_has_used_for_long_goes_however_much_room_there_is() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut records = BTreeMap::new();
        let images =
            [image("never"), image("once"), image("used"), Image { pinned: true, ..image("pinned") }];
        let used = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<BTreeSet<_>>();
        note(&mut records, &images, &used(&["once", "used"]), at(1000));
        note(&mut records, &images, &used(&["used"]), at(1050));
        let gone = |now| outdated(&records, Duration::from_secs(100), at(1000), at(now));
        assert!(gone(1100).is_empty(), "not watched for long enough");
        assert_eq!(gone(1101), ["never", "once"]);
        let since_later = outdated(&records, Duration::from_secs(100), at(1050), at(1101));
        assert!(since_later.is_empty(), "{since_later:?}");
    }

    #[test]
    fn the_longest_unused_go_first_and_used_ones_stay() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut records = BTreeMap::new();
        let images = [image("a"), image("b"), image("c")];
        let used = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<BTreeSet<_>>();
        note(&mut records, &images, &used(&["a", "r/b"]), at(100));
        note(&mut records, &images, &used(&["r/b"]), at(200));
        note(&mut records, &images, &used(&["c"]), at(300));
        assert_eq!(candidates(&records, Duration::ZERO, at(300)), ["a", "b"]);
        assert!(candidates(&records, Duration::from_secs(201), at(300)).is_empty(), "too young");
        note(&mut records, &images[1..], &used(&[]), at(400));
        assert_eq!(candidates(&records, Duration::ZERO, at(400)), ["b", "c"]);
        let pinned = [image("b"), Image { pinned: true, ..image("c") }];
        note(&mut records, &pinned, &used(&[]), at(500));
        assert_eq!(candidates(&records, Duration::ZERO, at(500)), ["b"], "it was pinned since");
    }
}
