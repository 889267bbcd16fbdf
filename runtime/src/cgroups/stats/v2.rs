//! Statistics of cgroup version 2, in the terms of version 1 where they exist there.

use super::{Files, and, device, entry, io_entry, page_sizes, without_zeros};
use serde_json::{Map, Value, json};

pub(super) fn read(files: &Files<'_>) -> Value {
    json!({
        "cpu": cpu(files),
        "cpuset": cpuset(),
        "memory": memory(files),
        "blkio": block_io(files),
        "hugetlb": hugetlb(files),
    })
}

fn cpu(files: &Files<'_>) -> Value {
    let stat = files.table("", "cpu.stat");
    let always =
        json!({"kernel": entry(&stat, "system_usec") * 1000, "user": entry(&stat, "user_usec") * 1000});
    let usage = and(without_zeros(json!({"total": entry(&stat, "usage_usec") * 1000})), always);
    let throttling = without_zeros(json!({
        "periods": entry(&stat, "nr_periods"),
        "throttledPeriods": entry(&stat, "nr_throttled"),
        "throttledTime": entry(&stat, "throttled_usec") * 1000,
    }));
    and(json!({"usage": usage, "throttling": throttling}), pressure(&files.text("", "cpu.pressure")))
}

/// Version 2 has none of these, and readers expect them all.
fn cpuset() -> Value {
    json!({
        "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0, "memory_spread_page": 0,
        "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0, "sched_relax_domain_level": 0,
    })
}

fn memory(files: &Files<'_>) -> Value {
    let raw = files.table("", "memory.stat");
    let (limit, usage) = (files.number("", "memory.max"), files.number("", "memory.current"));
    let (swap_limit, swap) = (files.number("", "memory.swap.max"), files.number("", "memory.swap.current"));
    let part = |limit: u64, usage: u64, max: u64, failures: u64| {
        and(without_zeros(json!({"usage": usage, "max": max})), json!({"limit": limit, "failcnt": failures}))
    };
    let failures = entry(&files.table("", "memory.events"), "max");
    let parts = without_zeros(json!({
        "cache": entry(&raw, "file"),
        "usage": part(limit, usage, files.number("", "memory.peak"), failures),
        // Readers know version 1, which counts memory and swap together; `max` stays the largest number.
        "swap": part(swap_limit.saturating_add(limit), swap + usage, 0, 0),
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": raw,
    }));
    and(parts, pressure(&files.text("", "memory.pressure")))
}

/// `some avg10=0.00 avg60=0.12 avg300=0.00 total=17` and the same for `full`, as the member `psi`.
fn pressure(text: &str) -> Value {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_string();
        let pair = |word: &str| {
            let (key, value) = word.split_once('=')?;
            let number = match key {
                "total" => Value::from(value.parse::<u64>().ok()?),
                _ => Value::from(value.parse::<f64>().ok()?),
            };
            Some((key.to_string(), number))
        };
        Some((name, Value::Object(words.filter_map(pair).collect())))
    };
    let parts: Map<String, Value> = text.lines().filter_map(line).collect();
    // A kernel without pressure information has no file, or one that cannot be read.
    if parts.is_empty() { json!({}) } else { json!({"psi": parts}) }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`; what version 1 has no word for is left out.
fn block_io(files: &Files<'_>) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in files.text("", "io.stat").lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => bytes.push(io_entry(device, "Read", value)),
                "wbytes" => bytes.push(io_entry(device, "Write", value)),
                "rios" => operations.push(io_entry(device, "Read", value)),
                "wios" => operations.push(io_entry(device, "Write", value)),
                _ => {}
            }
        }
    }
    let entries = without_zeros(json!({"ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations}));
    and(entries, pressure(&files.text("", "io.pressure")))
}

fn hugetlb(files: &Files<'_>) -> Value {
    let part = |size: String| {
        let failures = entry(&files.table("", &format!("hugetlb.{size}.events")), "max");
        let usage = files.number("", &format!("hugetlb.{size}.current"));
        (size, and(without_zeros(json!({"usage": usage})), json!({"failcnt": failures})))
    };
    Value::Object(page_sizes().into_iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_becomes_numbers() {
        let text = "some avg10=0.50 avg60=0.00 avg300=0.00 total=17\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let psi = pressure(text);
        assert_eq!(psi["psi"]["some"], json!({"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 17}));
        assert_eq!(psi["psi"]["full"]["total"], 3);
        assert_eq!(pressure(""), json!({}));
    }
}
