//! What systemd is told about a scope: where it belongs, and the limits in its own words.

use super::scope::Scope;
use crate::cgroups::v2;
use crate::error::Result;
use crate::scheduling::cpu_list;
use crate::spec::{Cpu, Memory, Resources};
use serde::Serialize;

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum Value {
    Boolean(bool),
    Byte(u8),
    Int(i32),
    Word(u32),
    Long(i64),
    Number(u64),
    Real(f64),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
}

/// A property with its value.
pub(super) type Property = (&'static str, Value);

/// What every scope of ours has.
pub(super) fn of_scope(scope: &Scope, id: &str, pid: u32, unified: bool) -> Vec<Property> {
    let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
    let mut all = vec![("Description", Value::Text(format!("libcontainer container {id}")))];
    if scope.unit.ends_with(".slice") {
        all.push(("Wants", Value::Texts(vec![scope.slice.clone()])));
    } else {
        all.push(("Slice", Value::Text(scope.slice.clone())));
        // The cgroup below is the container's: systemd neither cleans it up nor moves its processes.
        all.push(("Delegate", Value::Boolean(true)));
    }
    all.push(("PIDs", Value::Numbers(vec![pid])));
    let accounted = ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"];
    all.extend(accounted.into_iter().map(|name| (name, Value::Boolean(true))));
    all.push(("DefaultDependencies", Value::Boolean(false)));
    all
}

/// Limits. Those that systemd has no word for are written to the cgroup's files only.
pub(super) fn of_resources(resources: &Resources, unified: bool) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    if let Some(memory) = &resources.memory {
        self::memory(memory, unified, &mut all);
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(cpu, unified, &mut all)?;
    }
    if let Some(limit) = resources.pids_limit() {
        all.push(("TasksMax", Value::Number(limit.unwrap_or(u64::MAX))));
    }
    Ok(all)
}

/// Less than one is no limit, which systemd spells as the largest number.
fn unlimited_or(limit: i64) -> u64 {
    u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX)
}

fn memory(memory: &Memory, unified: bool, all: &mut Vec<Property>) {
    let given = |value: Option<i64>| value.filter(|limit| *limit != 0).map(unlimited_or);
    let names = if unified { ("MemoryMax", "MemoryLow") } else { ("MemoryLimit", "") };
    all.extend(given(memory.limit).map(|limit| (names.0, Value::Number(limit))));
    if !unified {
        return;
    }
    all.extend(given(memory.reservation).map(|limit| (names.1, Value::Number(limit))));
    if let (Some(swap), Some(limit)) = (given(memory.swap), given(memory.limit)) {
        let alone = if swap == u64::MAX { swap } else { swap.saturating_sub(limit) };
        all.push(("MemorySwapMax", Value::Number(alone)));
    }
}

fn cpu(cpu: &Cpu, unified: bool, all: &mut Vec<Property>) -> Result<()> {
    let shares = cpu.shares.filter(|shares| *shares > 0);
    all.extend(shares.map(|shares| match unified {
        true => ("CPUWeight", Value::Number(v2::weight(shares))),
        false => ("CPUShares", Value::Number(shares)),
    }));
    if let Some(period) = cpu.period.filter(|period| *period > 0) {
        all.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        all.push(("CPUQuotaPerSecUSec", Value::Number(per_second(quota, cpu.period.unwrap_or(0)))));
    }
    if unified {
        for (name, field, list) in [
            ("AllowedCPUs", "linux.resources.cpu.cpus", &cpu.cpus),
            ("AllowedMemoryNodes", "linux.resources.cpu.mems", &cpu.mems),
        ] {
            if !list.is_empty() {
                all.push((name, Value::Bytes(bit_mask(&cpu_list(field, list)?))));
            }
        }
    }
    Ok(())
}

/// Microseconds of CPU time per second. systemd keeps whole percents: less would become another limit than the one that
/// is written to the file, so it is rounded up.
fn per_second(quota: i64, period: u64) -> u64 {
    const PERCENT: u64 = 10_000;
    let Ok(quota) = u64::try_from(quota) else { return u64::MAX };
    let period = if period == 0 { 100_000 } else { period };
    (quota.saturating_mul(1_000_000) / period).div_ceil(PERCENT).saturating_mul(PERCENT)
}

/// The lowest number is the lowest bit of the first byte.
fn bit_mask(numbers: &[usize]) -> Vec<u8> {
    let mut bytes = vec![0_u8; numbers.iter().max().map_or(0, |max| max / 8 + 1)];
    for number in numbers {
        if let Some(byte) = bytes.get_mut(number / 8) {
            *byte |= 1 << (number % 8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value, unified: bool, expected: &[Property]) {
        let resources: Resources = serde_json::from_value(json).unwrap();
        assert_eq!(of_resources(&resources, unified).unwrap(), expected);
    }

    #[test]
    fn limits_in_the_words_of_systemd() {
        let number = Value::Number;
        let json = serde_json::json!({"memory": {"limit": 100, "swap": 150, "reservation": 50},
            "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0,9"}, "pids": {"limit": -1}});
        check(
            json.clone(),
            true,
            &[
                ("MemoryMax", number(100)),
                ("MemoryLow", number(50)),
                ("MemorySwapMax", number(50)),
                ("CPUWeight", number(100)),
                ("CPUQuotaPeriodUSec", number(100_000)),
                ("CPUQuotaPerSecUSec", number(500_000)),
                ("AllowedCPUs", Value::Bytes(vec![1, 2])),
                ("TasksMax", number(u64::MAX)),
            ],
        );
        check(
            json,
            false,
            &[
                ("MemoryLimit", number(100)),
                ("CPUShares", number(1024)),
                ("CPUQuotaPeriodUSec", number(100_000)),
                ("CPUQuotaPerSecUSec", number(500_000)),
                ("TasksMax", number(u64::MAX)),
            ],
        );
        check(serde_json::json!({"memory": {"limit": 0}, "cpu": {}}), true, &[]);
    }

    #[test]
    fn quotas_are_whole_percents_rounded_up() {
        for (quota, period, expected) in [
            (50_000, 0, 500_000),
            (1001, 100_000, 20_000),
            (-1, 100_000, u64::MAX),
            (200_000, 100_000, 2_000_000),
        ] {
            assert_eq!(per_second(quota, period), expected);
        }
    }
}
