//! ContainerStats: what one container uses, from its cgroup and its snapshot.

use crate::engine::blocking::blocking;
use crate::engine::cgroups::{self, Psi, PsiLine, Usage};
use crate::engine::core::{Core, now};
use crate::engine::failures::status;
use crate::engine::records::ContainerRecord;
use crate::engine::registry::Container;
use knarr_cri::Status;
use knarr_cri::v1::{
    ContainerAttributes, ContainerStats, ContainerStatsRequest, ContainerStatsResponse, CpuUsage,
    FilesystemIdentifier, FilesystemUsage, IoUsage, MemoryUsage, PsiData, PsiStats, SwapUsage, UInt64Value,
};
use std::sync::{Arc, PoisonError};

pub(crate) async fn call(
    core: Arc<Core>,
    request: ContainerStatsRequest,
) -> Result<ContainerStatsResponse, Status> {
    let container = core.registry.container(&request.container_id)?;
    let stats = blocking(move || Ok(stats(&core, &container))).await.map_err(status)?;
    Ok(ContainerStatsResponse { stats: Some(stats) })
}

/// Reads everything about one container. Blocking.
pub(super) fn stats(core: &Core, container: &Container) -> ContainerStats {
    let record = container.record.get();
    let group = core.cgroup_of(&record.sandbox_id, &record.id);
    let usage = group.map(|group| cgroups::usage(&core.hierarchies, &group)).unwrap_or_default();
    let timestamp = now();
    ContainerStats {
        attributes: Some(attributes(&record)),
        cpu: Some(cpu(&usage, timestamp, rate(container, timestamp, usage.cpu_nanoseconds))),
        memory: Some(memory(&usage, timestamp)),
        writable_layer: writable_layer(core, &record.id, timestamp),
        swap: Some(SwapUsage {
            timestamp,
            swap_available_bytes: None,
            swap_usage_bytes: usage.swap.map(number),
        }),
        io: io(&usage, timestamp),
    }
}

fn attributes(record: &ContainerRecord) -> ContainerAttributes {
    ContainerAttributes {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
    }
}

/// Nanoseconds of CPU per second since the last look.
fn rate(container: &Container, timestamp: i64, used: Option<u64>) -> Option<u64> {
    let used = used?;
    let mut last = container.last_cpu.lock().unwrap_or_else(PoisonError::into_inner);
    let (then, before) = last.replace((timestamp, used))?;
    let elapsed = u64::try_from(timestamp.checked_sub(then)?).ok().filter(|&elapsed| elapsed > 0)?;
    let spent = u128::from(used.saturating_sub(before)) * 1_000_000_000 / u128::from(elapsed);
    u64::try_from(spent).ok()
}

/// CPU figures; also used for a whole pod.
pub(super) fn cpu(usage: &Usage, timestamp: i64, rate: Option<u64>) -> CpuUsage {
    CpuUsage {
        timestamp,
        usage_core_nano_seconds: usage.cpu_nanoseconds.map(number),
        usage_nano_cores: rate.map(number),
        psi: usage.cpu_pressure.map(psi),
    }
}

/// Memory figures; also used for a whole pod.
pub(super) fn memory(usage: &Usage, timestamp: i64) -> MemoryUsage {
    let available = usage
        .memory_limit
        .zip(usage.working_set)
        .map(|(limit, working_set)| limit.saturating_sub(working_set));
    MemoryUsage {
        timestamp,
        working_set_bytes: usage.working_set.map(number),
        available_bytes: available.map(number),
        usage_bytes: usage.memory.map(number),
        rss_bytes: usage.rss.map(number),
        page_faults: usage.page_faults.map(number),
        major_page_faults: usage.major_page_faults.map(number),
        psi: usage.memory_pressure.map(psi),
    }
}

/// Block IO; also used for a whole pod.
pub(super) fn io(usage: &Usage, timestamp: i64) -> Option<IoUsage> {
    usage.io_pressure.map(|pressure| IoUsage { timestamp, psi: Some(psi(pressure)) })
}

fn psi(from: Psi) -> PsiStats {
    let line = |line: PsiLine| {
        let PsiLine { avg10, avg60, avg300, total } = line;
        Some(PsiData { avg10, avg60, avg300, total })
    };
    PsiStats { some: line(from.some), full: line(from.full) }
}

fn writable_layer(core: &Core, id: &str, timestamp: i64) -> Option<FilesystemUsage> {
    let (bytes, inodes) = core.images.snapshot_usage(id).ok()?;
    Some(FilesystemUsage {
        timestamp,
        fs_id: Some(FilesystemIdentifier { mountpoint: super::image_fs_info::mountpoint(core) }),
        used_bytes: Some(number(bytes)),
        inodes_used: Some(number(inodes)),
    })
}

pub(super) fn number(value: u64) -> UInt64Value {
    UInt64Value { value }
}
