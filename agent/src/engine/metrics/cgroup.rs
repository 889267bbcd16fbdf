//! What the files of a control group say, in either version. A file that is not there leaves its figure out, except
//! where the absence of a limit is itself the figure (zero, as cAdvisor says it).

use super::Sample;
use crate::engine::cgroups::{Hierarchies, Psi, field, pressure_of, usage};
use std::path::PathBuf;

const MICROS: u64 = 1_000_000;
const NANOS: u64 = 1_000_000_000;
/// Version 1 counts CPU time in these (USER_HZ, fixed for all programs).
const TICKS: u64 = 100;
/// Version 1 says "unlimited" by a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

/// The directories of a group.
struct Group<'a> {
    hierarchies: &'a Hierarchies,
    group: &'a str,
}

impl Group<'_> {
    fn file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        Some(self.hierarchies.group(controller, self.group)?.join(file))
    }

    fn text(&self, controller: &str, file: &str) -> String {
        self.file(controller, file).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file).trim().parse().ok()
    }

    /// A limit; zero where there is none.
    fn limit(&self, controller: &str, file: &str) -> u64 {
        self.number(controller, file).filter(|&limit| limit < UNLIMITED).unwrap_or(0)
    }
}

/// All figures of a group.
pub(super) fn gather(hierarchies: &Hierarchies, group: &str) -> Vec<Sample> {
    let here = Group { hierarchies, group };
    let (cpu, memory) = if hierarchies.is_unified() {
        (unified_cpu(&here), unified_memory(&here))
    } else {
        (legacy_cpu(&here), legacy_memory(&here))
    };
    let mut samples = shared(&here);
    samples.extend(cpu.into_iter().chain(memory));
    samples.extend(pressure(hierarchies, group));
    samples.extend(block_io(&here));
    samples
}

/// What the figures of `usage` already say.
fn shared(here: &Group<'_>) -> Vec<Sample> {
    let usage = usage(here.hierarchies, here.group);
    let mut samples = vec![Sample::new("container_threads_max", here.limit("pids", "pids.max"))];
    let mut add = |name, value: Option<u64>| samples.extend(value.map(|value| Sample::new(name, value)));
    add("container_memory_usage_bytes", usage.memory);
    add("container_memory_working_set_bytes", usage.working_set);
    add("container_memory_rss", usage.rss);
    add("container_memory_swap", Some(usage.swap.unwrap_or(0)));
    samples.extend(
        usage
            .cpu_nanoseconds
            .map(|nanos| Sample::labelled("container_cpu_usage_seconds_total", nanos / NANOS, &["total"])),
    );
    for (kind, value) in [("pgfault", usage.page_faults), ("pgmajfault", usage.major_page_faults)] {
        samples.extend(
            value.map(|value| {
                Sample::labelled("container_memory_failures_total", value, &[kind, "container"])
            }),
        );
    }
    samples
}

fn throttling(stat: &str, throttled_seconds: u64) -> Vec<Sample> {
    vec![
        Sample::new("container_cpu_cfs_periods_total", field(stat, "nr_periods").unwrap_or(0)),
        Sample::new("container_cpu_cfs_throttled_periods_total", field(stat, "nr_throttled").unwrap_or(0)),
        Sample::new("container_cpu_cfs_throttled_seconds_total", throttled_seconds),
    ]
}

fn legacy_cpu(here: &Group<'_>) -> Vec<Sample> {
    let times = here.text("cpuacct", "cpuacct.stat");
    let stat = here.text("cpu", "cpu.stat");
    let mut samples = throttling(&stat, field(&stat, "throttled_time").unwrap_or(0) / NANOS);
    samples.extend([
        Sample::new("container_cpu_user_seconds_total", field(&times, "user").unwrap_or(0) / TICKS),
        Sample::new("container_cpu_system_seconds_total", field(&times, "system").unwrap_or(0) / TICKS),
        Sample::new("container_spec_cpu_period", here.limit("cpu", "cpu.cfs_period_us")),
        Sample::new("container_spec_cpu_shares", here.limit("cpu", "cpu.shares")),
    ]);
    let quota = here.number("cpu", "cpu.cfs_quota_us");
    samples.extend(quota.map(|quota| Sample::new("container_spec_cpu_quota", quota)));
    samples
}

fn legacy_memory(here: &Group<'_>) -> Vec<Sample> {
    let stat = here.text("memory", "memory.stat");
    let read = |file: &str| here.number("memory", file).unwrap_or(0);
    let oom = field(&here.text("memory", "memory.oom_control"), "oom_kill").unwrap_or(0);
    vec![
        Sample::new("container_memory_cache", field(&stat, "total_cache").unwrap_or(0)),
        Sample::new("container_memory_mapped_file", field(&stat, "total_mapped_file").unwrap_or(0)),
        Sample::new("container_memory_failcnt", read("memory.failcnt")),
        Sample::new("container_memory_kernel_usage", read("memory.kmem.usage_in_bytes")),
        Sample::new("container_memory_max_usage_bytes", read("memory.max_usage_in_bytes")),
        Sample::new("container_oom_events_total", oom),
        Sample::new("container_spec_memory_limit_bytes", here.limit("memory", "memory.limit_in_bytes")),
        Sample::new(
            "container_spec_memory_reservation_limit_bytes",
            here.limit("memory", "memory.soft_limit_in_bytes"),
        ),
        Sample::new(
            "container_spec_memory_swap_limit_bytes",
            here.limit("memory", "memory.memsw.limit_in_bytes"),
        ),
    ]
}

fn unified_cpu(here: &Group<'_>) -> Vec<Sample> {
    let stat = here.text("cpu", "cpu.stat");
    let micros = |key| field(&stat, key).unwrap_or(0) / MICROS;
    let mut samples = throttling(&stat, micros("throttled_usec"));
    let max = here.text("cpu", "cpu.max");
    let mut limits = max.split_whitespace();
    let quota = limits.next().and_then(|quota| quota.parse().ok());
    let period = limits.next().and_then(|period| period.parse().ok()).unwrap_or(0);
    samples.extend([
        Sample::new("container_cpu_user_seconds_total", micros("user_usec")),
        Sample::new("container_cpu_system_seconds_total", micros("system_usec")),
        Sample::new("container_spec_cpu_period", period),
        Sample::new("container_spec_cpu_shares", shares(here.limit("cpu", "cpu.weight"))),
    ]);
    samples.extend(quota.map(|quota| Sample::new("container_spec_cpu_quota", quota)));
    samples
}

/// The share of version 1 that a weight of version 2 stands for: 2..=262144 maps to 1..=10000 linearly.
fn shares(weight: u64) -> u64 {
    weight.checked_sub(1).map_or(0, |weight| 2 + weight * 262_142 / 9_999)
}

fn unified_memory(here: &Group<'_>) -> Vec<Sample> {
    let stat = here.text("memory", "memory.stat");
    let events = here.text("memory", "memory.events");
    let figure = |text: &str, key: &str| field(text, key).unwrap_or(0);
    vec![
        Sample::new("container_memory_cache", figure(&stat, "file")),
        Sample::new("container_memory_mapped_file", figure(&stat, "file_mapped")),
        Sample::new("container_memory_failcnt", figure(&events, "max")),
        Sample::new("container_memory_kernel_usage", figure(&stat, "kernel")),
        Sample::new("container_memory_max_usage_bytes", here.number("memory", "memory.peak").unwrap_or(0)),
        Sample::new("container_oom_events_total", figure(&events, "oom_kill")),
        Sample::new("container_spec_memory_limit_bytes", here.limit("memory", "memory.max")),
        Sample::new("container_spec_memory_reservation_limit_bytes", here.limit("memory", "memory.low")),
        Sample::new("container_spec_memory_swap_limit_bytes", here.limit("memory", "memory.swap.max")),
    ]
}

/// Pressure stall figures; only version 2 has them.
pub(super) fn pressure(hierarchies: &Hierarchies, group: &str) -> Vec<Sample> {
    const NAMES: [(&str, &str, &str); 3] = [
        (
            "cpu",
            "container_pressure_cpu_waiting_seconds_total",
            "container_pressure_cpu_stalled_seconds_total",
        ),
        (
            "memory",
            "container_pressure_memory_waiting_seconds_total",
            "container_pressure_memory_stalled_seconds_total",
        ),
        ("io", "container_pressure_io_waiting_seconds_total", "container_pressure_io_stalled_seconds_total"),
    ];
    let samples = |(resource, waiting, stalled)| {
        let Psi { some, full } = pressure_of(hierarchies, group, resource)?;
        Some([Sample::new(waiting, some.total / MICROS), Sample::new(stalled, full.total / MICROS)])
    };
    NAMES.into_iter().filter_map(samples).flatten().collect()
}

/// Bytes and operations per block device.
fn block_io(here: &Group<'_>) -> Vec<Sample> {
    let mut samples = Vec::new();
    let legacy = [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ];
    for (file, bytes) in legacy {
        for line in here.text("blkio", file).lines() {
            let mut words = line.split_whitespace();
            if let (Some(device), Some(operation), Some(Ok(value))) =
                (words.next(), words.next(), words.next().map(str::parse))
            {
                samples.extend(block_sample(device, operation, value, bytes));
            }
        }
    }
    for line in here.text("io", "io.stat").lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next() else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => samples.extend(block_sample(device, "Read", value, true)),
                "wbytes" => samples.extend(block_sample(device, "Write", value, true)),
                "rios" => samples.extend(block_sample(device, "Read", value, false)),
                "wios" => samples.extend(block_sample(device, "Write", value, false)),
                _ => {}
            }
        }
    }
    samples
}

/// `device` is `MAJOR:MINOR`.
fn block_sample(device: &str, operation: &str, value: u64, bytes: bool) -> Vec<Sample> {
    let (major, minor) = device.split_once(':').unwrap_or((device, ""));
    let name = match (operation, bytes) {
        ("Read", true) => "container_fs_reads_bytes_total",
        ("Write", true) => "container_fs_writes_bytes_total",
        ("Read", false) => "container_fs_reads_total",
        ("Write", false) => "container_fs_writes_total",
        _ => return Vec::new(),
    };
    let mut samples = vec![Sample::labelled(name, value, &[device])];
    if bytes {
        let labels = [device, major, minor, operation];
        samples.push(Sample::labelled("container_blkio_device_usage_total", value, &labels));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_become_shares_again() {
        assert_eq!([0, 1, 10_000].map(shares), [0, 2, 262_144]);
    }

    #[test]
    fn a_block_device_counts_bytes_by_operation() {
        let samples = block_sample("8:16", "Read", 512, true);
        assert_eq!(samples[0], Sample::labelled("container_fs_reads_bytes_total", 512, &["8:16"]));
        assert_eq!(samples[1].labels, ["8:16", "8", "16", "Read"]);
        assert!(block_sample("8:16", "Total", 1, true).is_empty());
    }
}
