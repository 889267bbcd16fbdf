//! Scheduling, IO priority, memory policy and personality of the calling process.

use crate::error::{Error, Result};

/// The arguments of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SchedAttributes {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, as are the next two.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

#[repr(C)]
struct RawAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the scheduling policy.
pub fn set_scheduler(a: SchedAttributes) -> Result<()> {
    let raw = RawAttributes {
        size: size_of::<RawAttributes>() as u32,
        policy: a.policy,
        flags: a.flags,
        nice: a.nice,
        priority: a.priority,
        runtime: a.runtime,
        deadline: a.deadline,
        period: a.period,
    };
    // SAFETY: `raw` has the kernel's layout and states its own size; it is only read.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) };
    if result == 0 { Ok(()) } else { Err(Error::last(format!("sched_setattr(0, {a:?})"))) }
}

/// Sets the IO class (1 real time, 2 best effort, 3 idle) and the priority in it.
pub fn set_io_priority(class: u32, priority: u32) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = (class << 13) | priority;
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::last(format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {value:#x})")))
    }
}

/// Sets the NUMA policy; `nodes` is a bit mask in words, lowest node first.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    let bits = nodes.len() * 64;
    let max = if bits == 0 { 0 } else { bits + 1 };
    // A mask of no nodes is not the same as no mask to the kernel.
    let mask = if bits == 0 { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads at most `max` - 1 bits of the mask, all of which are in the slice.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, max) };
    if result == 0 { Ok(()) } else { Err(Error::last(format!("set_mempolicy({mode:#x}, {nodes:x?})"))) }
}

/// Sets the execution domain.
pub fn set_personality(value: u64) -> Result<()> {
    // SAFETY: a plain number.
    let result = unsafe { libc::personality(value) };
    if result >= 0 { Ok(()) } else { Err(Error::last(format!("personality({value:#x})"))) }
}

/// Lets the process run on every CPU that its cgroup has.
pub fn set_affinity_to_all() -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| Error::new(errno, "sched_setaffinity(0, all)"))
}

/// Lets the process run on these CPUs only.
pub fn set_affinity(cpus: &[usize]) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus {
        if *cpu >= rustix::thread::CpuSet::MAX_CPU {
            return Err(Error::new(rustix::io::Errno::INVAL, format!("sched_setaffinity(0, [{cpu}])")));
        }
        set.set(*cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| Error::new(errno, format!("sched_setaffinity(0, {cpus:?})")))
}
