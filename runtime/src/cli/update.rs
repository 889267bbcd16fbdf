//! `update`: other limits for a container that exists.

use super::{Arguments, Flag, Global};
use crate::cgroups::{Cgroups, control, devices, v1, v2};
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::KERNEL_MEMORY;
use crate::spec::{BlockIo, Cpu, Memory, Pids, Resources, parse};
use crate::state::Status;
use std::io::Read;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("resources", Some('r')),
    Flag::value("blkio-weight", None),
    Flag::value("cpu-period", None),
    Flag::value("cpu-quota", None),
    Flag::value("cpu-burst", None),
    Flag::value("cpu-share", None),
    Flag::value("cpu-rt-period", None),
    Flag::value("cpu-rt-runtime", None),
    Flag::value("cpu-idle", None),
    Flag::value("cpuset-cpus", None),
    Flag::value("cpuset-mems", None),
    Flag::value("kernel-memory", None),
    Flag::value("kernel-memory-tcp", None),
    Flag::value("memory", None),
    Flag::value("memory-reservation", None),
    Flag::value("memory-swap", None),
    Flag::value("pids-limit", None),
    Flag::value("l3-cache-schema", None),
    Flag::value("mem-bw-schema", None),
];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::open(&global.root, &id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::new(Kind::State, "container not running"));
    }
    let schemas = [
        ("l3-cache-schema", "Intel RDT/CAT: l3 cache schema"),
        ("mem-bw-schema", "Intel RDT/MBA: mem bandwidth schema"),
    ];
    for (flag, name) in schemas {
        let given = arguments.text(flag)?.is_some_and(|schema| !schema.is_empty());
        if given && container.record.resctrl.is_none() {
            return Err(Error::new(Kind::Unsupported, format!("{name} is not enabled")));
        }
    }
    let mut resources = resources(arguments)?;
    if resources.memory.as_ref().is_some_and(|memory| memory.kernel.or(memory.kernel_tcp).is_some()) {
        global.log.warn(KERNEL_MEMORY);
    }
    if container.record.cgroups.unified {
        keep_the_rest(&container.record.cgroups, &mut resources);
    } else {
        free_swap_with_memory(&container.record.cgroups, &mut resources);
    }
    check_usage(&container.record.cgroups, &resources)?;
    apply(&container.record.cgroups, &resources)?;
    if let Some(group) = &container.record.resctrl {
        let schema = |flag: &str| arguments.text(flag).map(Option::unwrap_or_default);
        group.update(&schema("l3-cache-schema")?, &schema("mem-bw-schema")?)?;
    }
    Ok(0)
}

fn apply(cgroups: &Cgroups, resources: &Resources) -> Result<()> {
    if let Some(scope) = &cgroups.scope {
        crate::systemd::update(scope, resources, cgroups.unified)?;
    }
    let mut writes = if cgroups.unified { v2::writes(resources)? } else { v1::writes(resources)? };
    if !resources.devices.is_empty() {
        let rules = devices::rules(&resources.devices)?;
        if cgroups.unified {
            control::set_device_filter(cgroups, &rules)?;
        } else {
            writes.extend(devices::v1_writes(&rules));
        }
    }
    control::write_all(cgroups, &writes)
}

/// Version 2 has one file for quota and period, and counts swap apart from memory: what is not changed is taken from what
/// is in force.
fn keep_the_rest(cgroups: &Cgroups, resources: &mut Resources) {
    let read = |file: &str| {
        cgroups.directory("").and_then(|own| std::fs::read_to_string(own.join(file)).ok()).unwrap_or_default()
    };
    let given = |value: Option<u64>| value.is_some_and(|number| number != 0);
    if let Some(cpu) = &mut resources.cpu {
        let quota_given = cpu.quota.is_some_and(|quota| quota != 0);
        let now = read("cpu.max");
        let (quota, period) = now.trim().split_once(' ').unwrap_or_default();
        match (quota_given, given(cpu.period)) {
            (true, false) => cpu.period = period.parse().ok(),
            (false, true) => cpu.quota = quota.parse().ok(),
            _ => {}
        }
    }
    if let Some(memory) = &mut resources.memory
        && memory.swap.is_some_and(|swap| swap > 0)
        && memory.limit.unwrap_or(0) == 0
    {
        memory.limit = read("memory.max").trim().parse().ok();
    }
}

/// Version 1 limits memory and swap together, which cannot be less than memory alone: without a limit of memory, and no
/// word about swap, both are free.
fn free_swap_with_memory(cgroups: &Cgroups, resources: &mut Resources) {
    if let Some(memory) = &mut resources.memory
        && memory.limit == Some(-1)
        && memory.swap.unwrap_or(0) == 0
        && cgroups.directory("memory").is_some_and(|own| own.join("memory.memsw.limit_in_bytes").exists())
    {
        memory.swap = Some(-1);
    }
}

/// `checkBeforeUpdate`: a limit below what is used would kill at once on version 2.
fn check_usage(cgroups: &Cgroups, resources: &Resources) -> Result<()> {
    let Some(memory) = resources.memory.as_ref().filter(|m| m.check_before_update == Some(true)) else {
        return Ok(());
    };
    let file = if cgroups.unified { "memory.current" } else { "memory.usage_in_bytes" };
    let read = cgroups.directory("memory").and_then(|own| std::fs::read_to_string(own.join(file)).ok());
    let used: i64 = read.unwrap_or_default().trim().parse().unwrap_or(0);
    match memory.limit {
        Some(limit) if limit > 0 && limit < used => {
            Err(Error::invalid(format!("rejecting memory limit {limit} because current usage is {used}")))
        }
        _ => Ok(()),
    }
}

/// From a file, from standard input, or from flags.
fn resources(arguments: &Arguments) -> Result<Resources> {
    if let Some(path) = arguments.path("resources") {
        let mut json = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut json).context(|| "read standard input")?;
        } else {
            json = std::fs::read(&path).context(|| format!("open {}", path.display()))?;
        }
        return parse(&json).map_err(|error| Error::invalid(format!("resources: {error}")));
    }
    Ok(Resources {
        memory: Some(memory(arguments)?),
        cpu: Some(cpu(arguments)?),
        pids: arguments.number("pids-limit")?.map(|limit| Pids { limit: Some(limit) }),
        block_io: arguments
            .number("blkio-weight")?
            .map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    })
}

fn memory(arguments: &Arguments) -> Result<Memory> {
    let bytes = |name: &str| -> Result<Option<i64>> {
        let Some(text) = arguments.text(name)? else { return Ok(None) };
        self::bytes(&text)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("invalid value for {name}: invalid size: '{text}'")))
    };
    Ok(Memory {
        limit: bytes("memory")?,
        reservation: bytes("memory-reservation")?,
        swap: bytes("memory-swap")?,
        kernel: bytes("kernel-memory")?,
        kernel_tcp: bytes("kernel-memory-tcp")?,
        ..Memory::default()
    })
}

fn cpu(arguments: &Arguments) -> Result<Cpu> {
    Ok(Cpu {
        shares: arguments.number("cpu-share")?,
        quota: arguments.number("cpu-quota")?,
        burst: arguments.number("cpu-burst")?,
        period: arguments.number("cpu-period")?,
        realtime_runtime: arguments.number("cpu-rt-runtime")?,
        realtime_period: arguments.number("cpu-rt-period")?,
        cpus: arguments.text("cpuset-cpus")?.unwrap_or_default(),
        mems: arguments.text("cpuset-mems")?.unwrap_or_default(),
        idle: arguments.number("cpu-idle")?,
    })
}

/// A number with an optional unit of 1024: `512m`, `1GiB`, `-1`.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("123", Some(123)),
            ("1k", Some(1024)),
            ("2MB", Some(2 << 20)),
            ("1GiB", Some(1 << 30)),
            ("-1", Some(-1)),
            ("", None),
            ("x", None),
            ("9999999999999g", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
