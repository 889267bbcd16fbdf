//! CPU scheduling, IO priority, NUMA policy and execution domain of the container's program.

use crate::error::{Context, Error, Result};
use crate::spec;
use knarr_sys::sched::{self, SchedAttributes};
use serde::Serialize;

/// The arguments of sched_setattr(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SchedulerPlan {
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    /// The cgroup has only some CPUs, which the kernel does not allow together with every policy.
    pub(crate) some_cpus: bool,
}

/// The arguments of ioprio_set(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct IoPriority {
    pub(crate) class: u32,
    pub(crate) priority: u32,
}

/// The arguments of set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryPolicy {
    pub(crate) mode: u32,
    pub(crate) nodes: Vec<u64>,
}

const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const SCHED_FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const IO_CLASSES: &[(&str, u32)] =
    &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// Memory policies by name.
pub(crate) const MEMORY_MODES: &[(&str, u32)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Their flags.
pub(crate) const MEMORY_FLAGS: &[(&str, u32)] = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

const PERSONALITIES: &[(&str, u64)] = &[("LINUX", 0), ("LINUX32", 8)];

fn look_up<T: Copy>(table: &[(&str, T)], field: &str, name: &str) -> Result<T> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    found.ok_or_else(|| Error::invalid(format!("{field}: {name:?} is not known")))
}

pub(crate) fn scheduler(given: &spec::Scheduler, some_cpus: bool) -> Result<SchedulerPlan> {
    let flags = given.flags.iter().try_fold(0, |all, name| {
        Ok::<u64, Error>(all | look_up(SCHED_FLAGS, "process.scheduler.flags", name)?)
    })?;
    Ok(SchedulerPlan {
        policy: look_up(POLICIES, "process.scheduler.policy", &given.policy)?,
        flags,
        nice: given.nice,
        priority: u32::try_from(given.priority)
            .map_err(|_| Error::invalid("process.scheduler.priority: must not be negative"))?,
        runtime: given.runtime,
        deadline: given.deadline,
        period: given.period,
        some_cpus,
    })
}

pub(crate) fn io_priority(given: &spec::IoPriority) -> Result<IoPriority> {
    let class = look_up(IO_CLASSES, "process.ioPriority.class", &given.class)?;
    match u32::try_from(given.priority) {
        Ok(priority) if priority <= 7 => Ok(IoPriority { class, priority }),
        _ => Err(Error::invalid(format!(
            "process.ioPriority.priority: {} is not between 0 and 7",
            given.priority
        ))),
    }
}

pub(crate) fn memory_policy(given: &spec::MemoryPolicy) -> Result<MemoryPolicy> {
    let mode = look_up(MEMORY_MODES, "linux.memoryPolicy.mode: invalid memory policy mode", &given.mode)?;
    let flags = given.flags.iter().try_fold(0, |all, name| {
        Ok::<u32, Error>(
            all | look_up(MEMORY_FLAGS, "linux.memoryPolicy.flags: invalid memory policy flag", name)?,
        )
    })?;
    let list = cpu_list("linux.memoryPolicy.nodes: invalid memory policy nodes", &given.nodes)?;
    check_nodes(&given.mode, list.len())?;
    let mut nodes = Vec::new();
    for node in list {
        let word = node / 64;
        if nodes.len() <= word {
            nodes.resize(word + 1, 0_u64);
        }
        if let Some(bits) = nodes.get_mut(word) {
            *bits |= 1 << (node % 64);
        }
    }
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

/// Which modes are about nodes.
fn check_nodes(mode: &str, count: usize) -> Result<()> {
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if count > 0 => Err(Error::invalid(format!(
            "linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got {count}"
        ))),
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => Ok(()),
        _ if count == 0 => Err(Error::invalid(
            "linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0",
        )),
        _ => Ok(()),
    }
}

pub(crate) fn personality(given: &spec::Personality) -> Result<u64> {
    if !given.flags.is_empty() {
        return Err(Error::invalid(
            "linux.personality.flags: additional flags are not supported by the specification",
        ));
    }
    look_up(PERSONALITIES, "linux.personality.domain", &given.domain)
}

/// A list such as `0-3,7`; every number is below 4096.
pub(crate) fn cpu_list(field: &str, text: &str) -> Result<Vec<usize>> {
    let wrong = || Error::invalid(format!("{field}: {text:?} is not a list of numbers and ranges"));
    let number = |word: &str| word.trim().parse::<usize>().ok().filter(|n| *n < 4096).ok_or_else(wrong);
    let mut list = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        list.extend(first..=last);
    }
    Ok(list)
}

pub(crate) fn set_scheduler(plan: &SchedulerPlan) -> Result<()> {
    let SchedulerPlan { policy, flags, nice, priority, runtime, deadline, period, some_cpus } = *plan;
    let attributes = SchedAttributes { policy, flags, nice, priority, runtime, deadline, period };
    match sched::set_scheduler(attributes) {
        Err(error) if some_cpus && error.errno == rustix::io::Errno::PERM => {
            Err(Error::invalid("process scheduler can't be used together with AllowedCPUs"))
        }
        done => done.context(|| "error setting scheduler"),
    }
}

pub(crate) fn set_io_priority(plan: &IoPriority) -> Result<()> {
    sched::set_io_priority(plan.class, plan.priority).context(|| "failed to set io priority")
}

pub(crate) fn set_memory_policy(plan: &MemoryPolicy) -> Result<()> {
    sched::set_memory_policy(plan.mode, &plan.nodes).context(|| "failed to set memory policy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(cpu_list("x", "0-2, 5").unwrap(), [0, 1, 2, 5]);
        assert_eq!(cpu_list("x", "").unwrap(), Vec::<usize>::new());
        for bad in ["a", "3-1", "1-", "99999999"] {
            assert!(cpu_list("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn node_lists_become_masks() {
        let policy = spec::MemoryPolicy { mode: "MPOL_BIND".into(), nodes: "0,65".into(), flags: vec![] };
        assert_eq!(memory_policy(&policy).unwrap(), MemoryPolicy { mode: 2, nodes: vec![1, 2] });
    }
}
