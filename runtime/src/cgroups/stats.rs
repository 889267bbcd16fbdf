//! What `events --stats` prints: the files of a cgroup in runc's shape.

use super::Cgroups;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The `data` object. What this host does not count is left out or zero, as runc does.
pub(crate) fn read(cgroups: &Cgroups) -> Value {
    let (cpu, memory) = if cgroups.unified {
        (cpu_v2(cgroups), memory_v2(cgroups))
    } else {
        (cpu_v1(cgroups), memory_v1(cgroups))
    };
    json!({
        "cpu": cpu,
        "cpuset": {},
        "memory": memory,
        "pids": pids(cgroups),
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn text(cgroups: &Cgroups, controller: &str, file: &str) -> String {
    let path = cgroups.directory(controller).map(|directory| directory.join(file));
    path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

/// A file with one number. `max` is the largest number there is.
fn number(cgroups: &Cgroups, controller: &str, file: &str) -> u64 {
    let text = text(cgroups, controller, file);
    if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or(0) }
}

/// A file with lines of `key number`.
fn table(text: &str) -> Map<String, Value> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_string(), Value::from(value.trim().parse::<u64>().ok()?)))
    };
    text.lines().filter_map(pair).collect()
}

fn entry(table: &Map<String, Value>, key: &str) -> u64 {
    table.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn cpu_v1(cgroups: &Cgroups) -> Value {
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let throttling = table(&text(cgroups, "cpu", "cpu.stat"));
    let split = table(&text(cgroups, "cpuacct", "cpuacct.stat"));
    let per_cpu = text(cgroups, "cpuacct", "cpuacct.usage_percpu");
    let per_cpu: Vec<u64> = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    json!({
        "usage": {
            "total": number(cgroups, "cpuacct", "cpuacct.usage"),
            "percpu": per_cpu,
            "kernel": entry(&split, "system") * NANOSECONDS_PER_TICK,
            "user": entry(&split, "user") * NANOSECONDS_PER_TICK,
        },
        "throttling": {
            "periods": entry(&throttling, "nr_periods"),
            "throttledPeriods": entry(&throttling, "nr_throttled"),
            "throttledTime": entry(&throttling, "throttled_time"),
        },
    })
}

fn cpu_v2(cgroups: &Cgroups) -> Value {
    let stat = table(&text(cgroups, "", "cpu.stat"));
    json!({
        "usage": {
            "total": entry(&stat, "usage_usec") * 1000,
            "kernel": entry(&stat, "system_usec") * 1000,
            "user": entry(&stat, "user_usec") * 1000,
        },
        "throttling": {
            "periods": entry(&stat, "nr_periods"),
            "throttledPeriods": entry(&stat, "nr_throttled"),
            "throttledTime": entry(&stat, "throttled_usec") * 1000,
        },
    })
}

fn memory_v1(cgroups: &Cgroups) -> Value {
    let part = |prefix: &str| {
        let file = |name: &str| number(cgroups, "memory", &format!("{prefix}.{name}"));
        json!({
            "limit": file("limit_in_bytes"),
            "usage": file("usage_in_bytes"),
            "max": file("max_usage_in_bytes"),
            "failcnt": file("failcnt"),
        })
    };
    let raw = table(&text(cgroups, "memory", "memory.stat"));
    json!({
        "cache": entry(&raw, "cache"),
        "usage": part("memory"),
        "swap": part("memory.memsw"),
        "kernel": part("memory.kmem"),
        "kernelTCP": part("memory.kmem.tcp"),
        "raw": raw,
    })
}

fn memory_v2(cgroups: &Cgroups) -> Value {
    let raw = table(&text(cgroups, "", "memory.stat"));
    let events = table(&text(cgroups, "", "memory.events"));
    json!({
        "cache": entry(&raw, "file"),
        "usage": {
            "limit": number(cgroups, "", "memory.max"),
            "usage": number(cgroups, "", "memory.current"),
            "max": number(cgroups, "", "memory.peak"),
            "failcnt": entry(&events, "max"),
        },
        "swap": {
            "limit": number(cgroups, "", "memory.swap.max"),
            "usage": number(cgroups, "", "memory.swap.current"),
            "failcnt": 0,
        },
        "kernel": {"failcnt": 0},
        "kernelTCP": {"failcnt": 0},
        "raw": raw,
    })
}

fn pids(cgroups: &Cgroups) -> Value {
    let limit = number(cgroups, "pids", "pids.max");
    json!({"current": number(cgroups, "pids", "pids.current"), "limit": if limit == u64::MAX { 0 } else { limit }})
}

/// Whether the kernel's OOM killer has struck, and how often.
pub(crate) fn oom_kills(cgroups: &Cgroups) -> u64 {
    let file = if cgroups.unified { "memory.events" } else { "memory.oom_control" };
    entry(&table(&text(cgroups, "memory", file)), "oom_kill")
}

/// The cgroup is still there.
pub(crate) fn exists(cgroups: &Cgroups) -> bool {
    cgroups.directories.first().is_some_and(|directory| rustix::fs::stat(Path::new(&directory.path)).is_ok())
}
