//! All figures of one running container.

use super::{Owner, Sample, cgroup, finish, processes};
use crate::engine::core::{Core, now};
use crate::engine::records::{ContainerRecord, SandboxRecord};
use knarr_cri::v1::Metric;

/// Reads them. Blocking.
pub(crate) fn gather(core: &Core, pod: &SandboxRecord, record: &ContainerRecord) -> Vec<Metric> {
    let group = core.cgroup_of(&pod.id, &record.id).unwrap_or_default();
    let metadata = pod.config.metadata.clone().unwrap_or_default();
    let owner = Owner {
        id: group.clone(),
        name: record.id.clone(),
        image: record.config.image.clone().unwrap_or_default().image,
        namespace: metadata.namespace,
        pod: metadata.name,
        container: record.config.metadata.clone().unwrap_or_default().name,
    };
    let mut samples = cgroup::gather(&core.hierarchies, &group);
    samples.extend(processes::gather(&core.hierarchies.processes(&group), record.pid));
    samples.extend(file_system(core, &record.id));
    samples.extend([
        Sample::new("container_last_seen", seconds(now())),
        Sample::new("container_start_time_seconds", seconds(record.started_at)),
    ]);
    finish(&owner, samples)
}

fn seconds(nanoseconds: i64) -> u64 {
    u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0)
}

/// The file system that holds the container's writes.
fn file_system(core: &Core, id: &str) -> Vec<Sample> {
    let place = core.config.data_dir.join("images");
    let Ok(stat) = rustix::fs::statvfs(&place) else { return Vec::new() };
    let used = core.images.snapshot_usage(id).map_or(0, |(bytes, _)| bytes);
    let device = place.to_string_lossy();
    [
        ("container_fs_inodes_free", stat.f_ffree),
        ("container_fs_inodes_total", stat.f_files),
        ("container_fs_limit_bytes", stat.f_blocks.saturating_mul(stat.f_frsize)),
        ("container_fs_usage_bytes", used),
    ]
    .into_iter()
    .map(|(name, value)| Sample::labelled(name, value, &[&device]))
    .collect()
}
