//! Statistics of cgroup version 1.

use super::{Files, and, device, entry, io_entry, page_sizes, without_zeros};
use crate::scheduling::cpu_list;
use serde_json::{Map, Value, json};

/// `cpuacct.stat` counts in hundredths of a second, whatever the kernel's own tick.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub(super) fn read(files: &Files<'_>) -> Value {
    json!({
        "cpu": cpu(files),
        "cpuset": cpuset(files),
        "memory": memory(files),
        "blkio": block_io(files),
        "hugetlb": hugetlb(files),
    })
}

fn cpu(files: &Files<'_>) -> Value {
    let throttling = files.table("cpu", "cpu.stat");
    let split = files.table("cpuacct", "cpuacct.stat");
    let per_cpu = files.text("cpuacct", "cpuacct.usage_percpu");
    let per_cpu: Vec<u64> = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let (user, kernel) = per_cpu_split(&files.text("cpuacct", "cpuacct.usage_all"));
    let always = json!({
        "kernel": entry(&split, "system") * NANOSECONDS_PER_TICK,
        "user": entry(&split, "user") * NANOSECONDS_PER_TICK,
    });
    let usage = without_zeros(json!({
        "total": files.number("cpuacct", "cpuacct.usage"),
        "percpu": per_cpu,
        "percpu_kernel": kernel,
        "percpu_user": user,
    }));
    let throttling = without_zeros(json!({
        "periods": entry(&throttling, "nr_periods"),
        "throttledPeriods": entry(&throttling, "nr_throttled"),
        "throttledTime": entry(&throttling, "throttled_time"),
    }));
    json!({"usage": and(usage, always), "throttling": throttling})
}

/// Lines of `cpu user system` below a header.
fn per_cpu_split(text: &str) -> (Vec<u64>, Vec<u64>) {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().skip(1).map(str::parse::<u64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    text.lines().skip(1).filter_map(line).unzip()
}

fn cpuset(files: &Files<'_>) -> Value {
    let list = |file: &str| cpu_list(file, files.text("cpuset", file).trim()).unwrap_or_default();
    let numbers = [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
    ];
    let number =
        |name: &&str| ((*name).to_string(), files.number("cpuset", &format!("cpuset.{name}")).into());
    let mut all: Map<String, Value> = numbers.iter().map(number).collect();
    let level = files.text("cpuset", "cpuset.sched_relax_domain_level").trim().parse::<i64>().unwrap_or(0);
    all.insert("sched_relax_domain_level".into(), level.into());
    and(Value::Object(all), without_zeros(json!({"cpus": list("cpuset.cpus"), "mems": list("cpuset.mems")})))
}

fn memory(files: &Files<'_>) -> Value {
    let part = |prefix: &str| {
        let file = |name: &str| files.number("memory", &format!("{prefix}.{name}"));
        let always = json!({"limit": file("limit_in_bytes"), "failcnt": file("failcnt")});
        let rest = json!({"usage": file("usage_in_bytes"), "max": file("max_usage_in_bytes")});
        and(without_zeros(rest), always)
    };
    let raw = files.table("memory", "memory.stat");
    without_zeros(json!({
        "cache": entry(&raw, "cache"),
        "usage": part("memory"),
        "swap": part("memory.memsw"),
        "kernel": part("memory.kmem"),
        "kernelTCP": part("memory.kmem.tcp"),
        "raw": raw,
    }))
}

/// Which files count depends on the IO scheduler; the first group that has anything is taken, as runc does.
const IO_GROUPS: &[&[(&str, &str)]] = &[
    &[
        ("sectorsRecursive", "blkio.bfq.sectors_recursive"),
        ("ioServiceTimeRecursive", "blkio.bfq.io_service_time_recursive"),
        ("ioWaitTimeRecursive", "blkio.bfq.io_wait_time_recursive"),
        ("ioMergedRecursive", "blkio.bfq.io_merged_recursive"),
        ("ioQueueRecursive", "blkio.bfq.io_queued_recursive"),
        ("ioTimeRecursive", "blkio.bfq.time_recursive"),
        ("ioServicedRecursive", "blkio.bfq.io_serviced_recursive"),
        ("ioServiceBytesRecursive", "blkio.bfq.io_service_bytes_recursive"),
    ],
    &[
        ("ioServicedRecursive", "blkio.bfq.io_serviced_recursive"),
        ("ioServiceBytesRecursive", "blkio.bfq.io_service_bytes_recursive"),
    ],
    &[
        ("sectorsRecursive", "blkio.sectors_recursive"),
        ("ioServiceTimeRecursive", "blkio.io_service_time_recursive"),
        ("ioWaitTimeRecursive", "blkio.io_wait_time_recursive"),
        ("ioMergedRecursive", "blkio.io_merged_recursive"),
        ("ioQueueRecursive", "blkio.io_queued_recursive"),
        ("ioTimeRecursive", "blkio.time_recursive"),
        ("ioServicedRecursive", "blkio.io_serviced_recursive"),
        ("ioServiceBytesRecursive", "blkio.io_service_bytes_recursive"),
    ],
    &[
        ("ioServicedRecursive", "blkio.throttle.io_serviced_recursive"),
        ("ioServiceBytesRecursive", "blkio.throttle.io_service_bytes_recursive"),
    ],
    &[
        ("ioServicedRecursive", "blkio.throttle.io_serviced"),
        ("ioServiceBytesRecursive", "blkio.throttle.io_service_bytes"),
    ],
];

fn block_io(files: &Files<'_>) -> Value {
    let group = |group: &&[(&str, &str)]| {
        let read: Vec<(String, Vec<Value>)> = group
            .iter()
            .map(|(name, file)| ((*name).to_string(), io_entries(&files.text("blkio", file))))
            .collect();
        read.iter().all(|(_, entries)| !entries.is_empty()).then_some(read)
    };
    let found = IO_GROUPS.iter().find_map(group).unwrap_or_default();
    Value::Object(found.into_iter().map(|(name, entries)| (name, Value::Array(entries))).collect())
}

/// Lines of `8:0 Read 4096` or `8:0 12`; the line of totals is left out.
fn io_entries(text: &str) -> Vec<Value> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let device = device(words.first()?)?;
        match words.get(1..)? {
            [value] => Some(io_entry(device, "", value.parse().ok()?)),
            [op, value] => Some(io_entry(device, op, value.parse().ok()?)),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

fn hugetlb(files: &Files<'_>) -> Value {
    if files.cgroups.directory("hugetlb").is_none() {
        return json!({});
    }
    let part = |size: String| {
        let file = |name: &str| files.number("hugetlb", &format!("hugetlb.{size}.{name}"));
        let rest = without_zeros(json!({"usage": file("usage_in_bytes"), "max": file("max_usage_in_bytes")}));
        let value = and(rest, json!({"failcnt": file("failcnt")}));
        (size, value)
    };
    Value::Object(page_sizes().into_iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_block_devices() {
        let text = "8:0 Read 4096\n8:0 Discard 0\n8:16 12\nTotal 4108\nnonsense\n";
        let expected = [
            json!({"major": 8, "op": "Read", "value": 4096}),
            json!({"major": 8, "op": "Discard"}),
            json!({"major": 8, "minor": 16, "value": 12}),
        ];
        assert_eq!(io_entries(text), expected);
    }

    #[test]
    fn users_and_the_kernel_share_of_each_cpu() {
        let (user, kernel) = per_cpu_split("cpu user system\n0 11 21\n1 12 22\n");
        assert_eq!((user, kernel), (vec![11, 12], vec![21, 22]));
    }
}
