//! What each pod uses: memory as the runtime counts it; disk as the sum of writable layers, logs and emptyDir volumes.

use super::thresholds::Signal;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::labels;
use crate::kubelet::paths::Paths;
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{Pod, Volume};
use knarr_cri::RuntimeService;
use knarr_cri::v1::{
    ContainerStats, ContainerStatsFilter, ListContainerStatsRequest, ListPodSandboxStatsRequest,
};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many are asked for one by one.
const FEW_PODS: usize = 10;

/// Bytes and inodes on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::kubelet) struct Disk {
    pub(in crate::kubelet) bytes: u64,
    pub(in crate::kubelet) inodes: u64,
}

impl Disk {
    pub(super) fn plus(self, other: Disk) -> Disk {
        Disk { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}

/// What one container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ContainerUsage {
    /// Bytes.
    pub(super) memory: u64,
    /// Writable layer and logs.
    pub(super) disk: Disk,
}

/// What one pod uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// By name.
    pub(super) containers: BTreeMap<String, ContainerUsage>,
    /// EmptyDir volumes on the disk, by name.
    pub(super) volumes: BTreeMap<String, Disk>,
    /// Asked for only where the node is short of them.
    pub(super) processes: u64,
}

impl Usage {
    /// Of all containers.
    pub(super) fn memory(&self) -> u64 {
        self.containers.values().map(|container| container.memory).sum()
    }

    /// Of containers and volumes.
    pub(super) fn disk(&self) -> Disk {
        let containers = self.containers.values().map(|container| container.disk);
        containers.chain(self.volumes.values().copied()).fold(Disk::default(), Disk::plus)
    }
}

/// By pod uid.
#[derive(Debug, Default)]
pub(super) struct Usages(BTreeMap<String, Usage>);

/// Directories of one pod that must be walked.
struct Walk {
    uid: String,
    /// Volume name and directory.
    volumes: Vec<(String, PathBuf)>,
    /// Container name and directory of its logs.
    logs: Vec<(String, PathBuf)>,
}

impl Usages {
    /// Asks and measures: for pods whose own limits depend on it, and for all where one has to go because the node is
    /// short of something. It is the dearest of all that a node looks at, so nothing is measured that nobody compares.
    pub(super) async fn gather(
        runtime: &dyn RuntimeService,
        pods: &[Arc<Pod>],
        paths: &Paths,
        short_of: Option<Signal>,
    ) -> Usages {
        let (mut usages, all) = (Usages::default(), short_of.is_some());
        if short_of == Some(Signal::Pids) {
            usages.count_processes(runtime).await;
        }
        let wanted: Vec<&Arc<Pod>> = pods.iter().filter(|pod| all || has_limits(pod)).collect();
        for filter in filters(&wanted, all) {
            let request = ListContainerStatsRequest { filter };
            let stats = within(CALL_DEADLINE, runtime.list_container_stats(request)).await;
            for stats in stats.map(|answer| answer.stats).unwrap_or_default() {
                usages.add(&stats);
            }
        }
        let walks: Vec<Walk> = wanted.into_iter().map(|pod| walk(pod, paths)).collect();
        let measured =
            tokio::task::spawn_blocking(move || walks.into_iter().map(measure).collect::<Vec<_>>());
        for (uid, volumes, logs) in measured.await.unwrap_or_default() {
            let usage = usages.0.entry(uid).or_default();
            usage.volumes = volumes;
            for (container, disk) in logs {
                let container = usage.containers.entry(container).or_default();
                container.disk = container.disk.plus(disk);
            }
        }
        usages
    }

    async fn count_processes(&mut self, runtime: &dyn RuntimeService) {
        let request = ListPodSandboxStatsRequest::default();
        let stats = within(CALL_DEADLINE, runtime.list_pod_sandbox_stats(request)).await;
        for stats in stats.map(|answer| answer.stats).unwrap_or_default() {
            let uid = stats.attributes.and_then(|attributes| attributes.labels.get(labels::POD_UID).cloned());
            let count = stats.linux.and_then(|linux| linux.process?.process_count);
            if let (Some(uid), Some(count)) = (uid, count) {
                self.0.entry(uid).or_default().processes = count.value;
            }
        }
    }

    fn add(&mut self, stats: &ContainerStats) {
        let Some(attributes) = &stats.attributes else { return };
        let (Some(uid), Some(name)) =
            (attributes.labels.get(labels::POD_UID), attributes.labels.get(labels::CONTAINER_NAME))
        else {
            return;
        };
        let value = |value: Option<knarr_cri::v1::UInt64Value>| value.map_or(0, |value| value.value);
        let memory = stats.memory.as_ref().map_or(0, |memory| value(memory.working_set_bytes));
        let layer = stats.writable_layer.as_ref();
        let disk = Disk {
            bytes: layer.map_or(0, |layer| value(layer.used_bytes)),
            inodes: layer.map_or(0, |layer| value(layer.inodes_used)),
        };
        let containers = &mut self.0.entry(uid.clone()).or_default().containers;
        containers.insert(name.clone(), ContainerUsage { memory, disk });
    }

    pub(super) fn of(&self, pod: &Pod) -> &Usage {
        static NOTHING: std::sync::LazyLock<Usage> = std::sync::LazyLock::new(Usage::default);
        self.0.get(pod::uid(pod)).unwrap_or(&NOTHING)
    }
}

/// What to ask the runtime for: everything, or a few pods.
fn filters(wanted: &[&Arc<Pod>], all: bool) -> Vec<Option<ContainerStatsFilter>> {
    if all || wanted.len() > FEW_PODS {
        return vec![None];
    }
    let of_pod = |pod: &&Arc<Pod>| {
        let label_selector = [(labels::POD_UID.to_owned(), pod::uid(pod).to_owned())].into();
        Some(ContainerStatsFilter { label_selector, ..Default::default() })
    };
    wanted.iter().map(of_pod).collect()
}

/// An emptyDir on the disk.
pub(super) fn is_on_disk(volume: &Volume) -> bool {
    let medium = volume.empty_dir.as_ref().map(|source| source.medium.as_deref().unwrap_or_default());
    medium == Some("")
}

fn has_limits(pod: &Pod) -> bool {
    let sized = |volume: &Volume| {
        is_on_disk(volume) && volume.empty_dir.as_ref().is_some_and(|source| source.size_limit.is_some())
    };
    let limited = pod::containers(pod).any(|(_, container)| {
        crate::kubelet::resources::limit(container.resources.as_ref(), "ephemeral-storage").is_some()
    });
    limited || pod::spec(pod).volumes.iter().flatten().any(sized)
}

fn walk(pod: &Pod, paths: &Paths) -> Walk {
    let volumes = pod::spec(pod).volumes.iter().flatten().filter(|volume| is_on_disk(volume));
    let directory = |name: &str| paths.volume(pod::uid(pod), "kubernetes.io~empty-dir", name);
    let logs = paths.logs(pod);
    Walk {
        uid: pod::uid(pod).to_string(),
        volumes: volumes.map(|volume| (volume.name.clone(), directory(&volume.name))).collect(),
        logs: pod::containers(pod).map(|(_, c)| (c.name.clone(), logs.join(&c.name))).collect(),
    }
}

type Measured = (String, BTreeMap<String, Disk>, Vec<(String, Disk)>);

fn measure(walk: Walk) -> Measured {
    let each = |(name, directory): (String, PathBuf)| (name, tree(&directory));
    (walk.uid, walk.volumes.into_iter().map(each).collect(), walk.logs.into_iter().map(each).collect())
}

/// What a directory and everything below it takes; what vanishes meanwhile takes nothing. Links are not followed.
pub(in crate::kubelet) fn tree(directory: &Path) -> Disk {
    let mut sum = Disk::default();
    let mut left = vec![directory.to_path_buf()];
    while let Some(path) = left.pop() {
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        sum = sum.plus(Disk { bytes: found.blocks() * 512, inodes: 1 });
        if found.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_counts_blocks_and_inodes() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::fs::write(directory.path().join("d/f"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("link")).unwrap();
        let found = tree(directory.path());
        assert_eq!(found.inodes, 4);
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
        assert_eq!(tree(Path::new("/no/such")), Disk::default());
    }
}
