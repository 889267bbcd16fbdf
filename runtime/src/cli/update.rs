//! `update`: other limits for a container that exists.

use super::{Arguments, Flag, Global};
use crate::cgroups::{Cgroups, control, devices, v1, v2};
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
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
    let id = super::container_id(arguments, "update")?;
    let container = Container::open(&global.root, &id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::new(Kind::State, "container not running"));
    }
    for missing in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.text(missing)?.is_some() {
            return Err(Error::unsupported(format!("--{missing}")));
        }
    }
    apply(&container.record.cgroups, &resources(arguments)?)?;
    Ok(0)
}

fn apply(cgroups: &Cgroups, resources: &Resources) -> Result<()> {
    let mut writes = if cgroups.unified { v2::writes(resources)? } else { v1::writes(resources) };
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

/// From a file, from standard input, or from flags.
fn resources(arguments: &Arguments) -> Result<Resources> {
    if let Some(path) = arguments.path("resources") {
        let mut json = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut json).context(|| "read standard input")?;
        } else {
            json = std::fs::read(&path).context(|| format!("read {}", path.display()))?;
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
            .ok_or_else(|| Error::invalid(format!("invalid value for {name}: {text:?}")))
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
