//! `linux.resources` as files of cgroup version 1.

use super::Write;
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Network, Resources, ThrottleDevice};

/// All values to write, in an order that suits a new cgroup. Devices are in `devices`.
pub(crate) fn writes(resources: &Resources) -> Result<Vec<Write>> {
    if !resources.unified.is_empty() {
        return Err(Error::invalid("invalid configuration: cannot use unified on cgroup v1"));
    }
    let mut writes = Vec::new();
    resources.cpu.iter().for_each(|cpu| self::cpu(cpu, &mut writes));
    resources.memory.iter().for_each(|memory| self::memory(memory, &mut writes));
    if let Some(limit) = resources.pids_limit() {
        writes.push(Write::new("pids", "pids.max", super::v2::number_or_max(limit)));
    }
    resources.block_io.iter().for_each(|block_io| self::block_io(block_io, &mut writes));
    for page in &resources.hugepage_limits {
        writes.push(Write::new("hugetlb", format!("hugetlb.{}.limit_in_bytes", page.page_size), page.limit));
    }
    resources.network.iter().for_each(|network| self::network(network, &mut writes));
    for (device, limits) in &resources.rdma {
        writes.push(Write::new("rdma", "rdma.max", super::v2::rdma(device, limits)));
    }
    Ok(writes)
}

fn cpu(cpu: &Cpu, writes: &mut Vec<Write>) {
    let numbers = [
        ("cpu.shares", cpu.shares.filter(|shares| *shares > 0).map(|n| n.to_string())),
        ("cpu.rt_period_us", cpu.realtime_period.filter(|n| *n > 0).map(|n| n.to_string())),
        ("cpu.rt_runtime_us", cpu.realtime_runtime.filter(|n| *n != 0).map(|n| n.to_string())),
        ("cpu.cfs_period_us", cpu.period.filter(|n| *n > 0).map(|n| n.to_string())),
        ("cpu.cfs_quota_us", cpu.quota.filter(|n| *n != 0).map(|n| n.to_string())),
        ("cpu.cfs_burst_us", cpu.burst.map(|n| n.to_string())),
        ("cpu.idle", cpu.idle.map(|n| n.to_string())),
    ];
    writes.extend(numbers.into_iter().filter_map(|(file, value)| Some(Write::new("cpu", file, value?))));
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            writes.push(Write::new("cpuset", file, value));
        }
    }
}

fn memory(memory: &Memory, writes: &mut Vec<Write>) {
    let numbers = [
        ("memory.limit_in_bytes", memory.limit),
        ("memory.memsw.limit_in_bytes", memory.swap),
        ("memory.soft_limit_in_bytes", memory.reservation),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp),
    ];
    let given = numbers.into_iter().filter_map(|(file, value)| value.filter(|n| *n != 0).map(|n| (file, n)));
    writes.extend(given.map(|(file, value)| Write::new("memory", file, value)));
    if memory.disable_oom_killer == Some(true) {
        writes.push(Write::new("memory", "memory.oom_control", 1));
    }
    // Beyond 100 it means "not set" to those who cannot leave a field out.
    if let Some(swappiness) = memory.swappiness.filter(|value| *value <= 100) {
        writes.push(Write::new("memory", "memory.swappiness", swappiness));
    }
}

fn block_io(block_io: &BlockIo, writes: &mut Vec<Write>) {
    let weights = [("blkio.weight", block_io.weight), ("blkio.leaf_weight", block_io.leaf_weight)];
    for (file, weight) in weights {
        writes.extend(weight.filter(|w| *w > 0).map(|weight| Write::new("blkio", file, weight)));
    }
    for device in &block_io.weight_device {
        let node = format!("{}:{}", device.major, device.minor);
        let weights =
            [("blkio.weight_device", device.weight), ("blkio.leaf_weight_device", device.leaf_weight)];
        for (file, weight) in weights {
            writes.extend(weight.map(|weight| Write::new("blkio", file, format!("{node} {weight}"))));
        }
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("read_bps", &block_io.throttle_read_bps_device),
        ("write_bps", &block_io.throttle_write_bps_device),
        ("read_iops", &block_io.throttle_read_iops_device),
        ("write_iops", &block_io.throttle_write_iops_device),
    ];
    for (name, devices) in throttles {
        for d in devices {
            let value = format!("{}:{} {}", d.major, d.minor, d.rate);
            writes.push(Write::new("blkio", format!("blkio.throttle.{name}_device"), value));
        }
    }
}

fn network(network: &Network, writes: &mut Vec<Write>) {
    writes.extend(network.class_id.map(|id| Write::new("net_cls", "net_cls.classid", id)));
    for interface in &network.priorities {
        let value = format!("{} {}", interface.name, interface.priority);
        writes.push(Write::new("net_prio", "net_prio.ifpriomap", value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resources: serde_json::Value, expected: &[(&str, &str, &str)]) {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let writes = writes(&resources).unwrap();
        let got: Vec<_> =
            writes.iter().map(|w| (w.controller.as_str(), w.file.as_str(), w.value.as_str())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn limits_become_files() {
        check(
            serde_json::json!({
                "memory": {"limit": 1048576, "swap": 2097152, "swappiness": 60, "reservation": 0},
                "cpu": {"shares": 512, "quota": -1, "period": 100000, "cpus": "0-1"},
                "pids": {"limit": 7}}),
            &[
                ("cpu", "cpu.shares", "512"),
                ("cpu", "cpu.cfs_period_us", "100000"),
                ("cpu", "cpu.cfs_quota_us", "-1"),
                ("cpuset", "cpuset.cpus", "0-1"),
                ("memory", "memory.limit_in_bytes", "1048576"),
                ("memory", "memory.memsw.limit_in_bytes", "2097152"),
                ("memory", "memory.swappiness", "60"),
                ("pids", "pids.max", "7"),
            ],
        );
        check(serde_json::json!({"pids": {"limit": -1}}), &[("pids", "pids.max", "max")]);
        check(serde_json::json!({"pids": {"limit": 0}}), &[("pids", "pids.max", "1")]);
        check(serde_json::json!({"memory": {"swappiness": 18446744073709551615_u64}}), &[]);
        check(
            serde_json::json!({"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 9}]}}),
            &[("blkio", "blkio.throttle.read_iops_device", "8:16 9")],
        );
    }
}
