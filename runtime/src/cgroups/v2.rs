//! `linux.resources`, which speaks in terms of version 1, as files of cgroup version 2.

use super::Write;
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Rdma, Resources, ThrottleDevice};

/// All values to write; `unified` comes last, so it wins.
pub(crate) fn writes(resources: &Resources) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    if let Some(memory) = &resources.memory {
        self::memory(memory, &mut writes)?;
    }
    resources.cpu.iter().for_each(|cpu| self::cpu(cpu, &mut writes));
    if let Some(limit) = resources.pids_limit() {
        writes.push(file("pids.max", number_or_max(limit)));
    }
    resources.block_io.iter().for_each(|block_io| self::block_io(block_io, &mut writes));
    for page in &resources.hugepage_limits {
        writes.push(file(format!("hugetlb.{}.max", page.page_size), page.limit));
    }
    for (device, limits) in &resources.rdma {
        writes.push(file("rdma.max", rdma(device, limits)));
    }
    for (name, value) in &resources.unified {
        if name.is_empty() || name.contains('/') {
            return Err(Error::invalid(format!("linux.resources.unified: {name:?} is not a file name")));
        }
        writes.push(file(name, value));
    }
    Ok(writes)
}

fn file(name: impl Into<String>, value: impl ToString) -> Write {
    Write::new("", name, value)
}

/// The word for no limit.
pub(super) fn number_or_max(limit: Option<u64>) -> String {
    limit.map_or_else(|| "max".into(), |limit| limit.to_string())
}

/// 0 and less are no limit.
fn limit(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".into() }
}

/// `mlx4_0 hca_handle=2 hca_object=2000`
pub(super) fn rdma(device: &str, limits: &Rdma) -> String {
    let handles = limits.hca_handles.map(|n| format!(" hca_handle={n}")).unwrap_or_default();
    let objects = limits.hca_objects.map(|n| format!(" hca_object={n}")).unwrap_or_default();
    format!("{device}{handles}{objects}")
}

fn memory(memory: &Memory, writes: &mut Vec<Write>) -> Result<()> {
    if let Some(swap) = swap_alone(memory)? {
        writes.push(file("memory.swap.max", swap));
    }
    let numbers = [("memory.max", memory.limit), ("memory.low", memory.reservation)];
    let given = numbers.into_iter().filter_map(|(name, value)| value.filter(|n| *n != 0).map(|n| (name, n)));
    writes.extend(given.map(|(name, value)| file(name, limit(value))));
    Ok(())
}

/// Version 1 counts memory plus swap, version 2 swap alone.
fn swap_alone(memory: &Memory) -> Result<Option<String>> {
    let limit = memory.limit.unwrap_or(0);
    match memory.swap.unwrap_or(0) {
        // An unlimited memory with no word about swap: swap must not stay limited from before.
        0 if limit == -1 => Ok(Some("max".into())),
        0 => Ok(None),
        -1 => Ok(Some("max".into())),
        swap if swap > 0 && limit == -1 => {
            Err(Error::invalid("linux.resources.memory.swap: should not be set for unlimited memory"))
        }
        swap if limit > 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        swap if limit > 0 => Err(Error::invalid(format!(
            "linux.resources.memory.swap: {swap} is less than the memory limit {limit}"
        ))),
        _ => Err(Error::invalid("linux.resources.memory.swap: needs linux.resources.memory.limit")),
    }
}

fn cpu(cpu: &Cpu, writes: &mut Vec<Write>) {
    if let Some(idle) = cpu.idle {
        writes.push(file("cpu.idle", idle));
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares > 0) {
        writes.push(file("cpu.weight", weight(shares)));
    }
    if cpu.quota.is_some_and(|q| q != 0) || cpu.period.is_some_and(|p| p != 0) {
        let quota = cpu.quota.map_or("max".into(), limit);
        let period = cpu.period.filter(|p| *p != 0).unwrap_or(100_000);
        writes.push(file("cpu.max", format!("{quota} {period}")));
    }
    writes.extend(cpu.burst.map(|burst| file("cpu.max.burst", burst)));
    for (name, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            writes.push(file(name, value));
        }
    }
}

/// 2..262144 shares onto 1..10000, so that both ends and the default (1024 to 100) meet.
pub(crate) fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // 1024 is exactly 100 but for the rounding of floating point.
    ((10.0_f64.powf(exponent) - 1e-9).ceil() as u64).clamp(1, 10_000)
}

fn block_io(block_io: &BlockIo, writes: &mut Vec<Write>) {
    writes.extend(block_io.weight.filter(|w| *w > 0).map(|weight| file("io.weight", io_weight(weight))));
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            writes
                .push(file("io.weight", format!("{}:{} {}", device.major, device.minor, io_weight(weight))));
        }
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("rbps", &block_io.throttle_read_bps_device),
        ("wbps", &block_io.throttle_write_bps_device),
        ("riops", &block_io.throttle_read_iops_device),
        ("wiops", &block_io.throttle_write_iops_device),
    ];
    for (name, devices) in throttles {
        for d in devices {
            writes.push(file("io.max", format!("{}:{} {name}={}", d.major, d.minor, d.rate)));
        }
    }
}

/// 10..1000 onto 1..10000.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resources: serde_json::Value, expected: &[(&str, &str)]) {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let writes = writes(&resources).unwrap();
        let got: Vec<_> = writes.iter().map(|w| (w.file.as_str(), w.value.as_str())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn limits_become_files() {
        check(
            serde_json::json!({"memory": {"limit": 100, "swap": 150}, "cpu": {"shares": 1024, "quota": 50000},
                "pids": {"limit": -1}, "unified": {"memory.high": "90"}}),
            &[
                ("memory.swap.max", "50"),
                ("memory.max", "100"),
                ("cpu.weight", "100"),
                ("cpu.max", "50000 100000"),
                ("pids.max", "max"),
                ("memory.high", "90"),
            ],
        );
        check(serde_json::json!({"cpu": {"quota": -1, "period": 1000}}), &[("cpu.max", "max 1000")]);
        check(
            serde_json::json!({"memory": {"limit": -1}}),
            &[("memory.swap.max", "max"), ("memory.max", "max")],
        );
    }

    #[test]
    fn the_ends_of_the_scales_meet() {
        for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert_eq!((io_weight(10), io_weight(1000), io_weight(0)), (1, 10_000, 1));
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            serde_json::json!({"memory": {"limit": 100, "swap": 50}}),
            serde_json::json!({"memory": {"swap": 50}}),
            serde_json::json!({"unified": {"../x": "1"}}),
        ] {
            assert!(writes(&serde_json::from_value(json).unwrap()).is_err());
        }
    }
}
