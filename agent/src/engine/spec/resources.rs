//! Limits: CRI's figures in the terms of the OCI specification. What is zero or empty was not asked for.

use super::{Input, devices};
use crate::engine::host::HostFacts;
use knarr_cri::v1::LinuxContainerResources;
use knarr_runtime::spec::{Cpu, HugepageLimit, Memory, Resources};

pub(super) fn build(input: &Input<'_>) -> Resources {
    let requested = input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let mut resources = requested.map(|resources| to_oci(resources, input.host)).unwrap_or_default();
    resources.devices = devices::rules(input);
    resources
}

/// The limits alone (also what `update` is given). A kubelet limits every size of huge page for every container, to
/// zero mostly, also where the kernel has no means for it.
pub(crate) fn to_oci(from: &LinuxContainerResources, host: &HostFacts) -> Resources {
    let cpu = Cpu {
        shares: positive(from.cpu_shares),
        quota: (from.cpu_quota != 0).then_some(from.cpu_quota),
        period: positive(from.cpu_period),
        cpus: from.cpuset_cpus.clone(),
        mems: from.cpuset_mems.clone(),
        ..Cpu::default()
    };
    // Memory and swap together: no swap for who asks for memory alone.
    let swap = match from.memory_swap_limit_in_bytes {
        0 => from.memory_limit_in_bytes,
        asked => asked,
    };
    let memory = Memory {
        limit: (from.memory_limit_in_bytes != 0).then_some(from.memory_limit_in_bytes),
        swap: (host.swap_limit && swap != 0).then_some(swap),
        ..Memory::default()
    };
    Resources {
        cpu: (cpu != Cpu::default()).then_some(cpu),
        memory: (memory != Memory::default()).then_some(memory),
        hugepage_limits: from
            .hugepage_limits
            .iter()
            .filter(|_| host.hugepage_limits)
            .map(|limit| HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit })
            .collect(),
        unified: from.unified.clone().into_iter().collect(),
        ..Resources::default()
    }
}

/// The limits that hold after an update: what the update names replaces, the rest stays.
pub(crate) fn merge(
    old: &LinuxContainerResources,
    update: &LinuxContainerResources,
) -> LinuxContainerResources {
    let number = |new: i64, old: i64| if new != 0 { new } else { old };
    let text = |new: &str, old: &str| if new.is_empty() { old.to_owned() } else { new.to_owned() };
    let mut unified = old.unified.clone();
    unified.extend(update.unified.clone());
    LinuxContainerResources {
        cpu_period: number(update.cpu_period, old.cpu_period),
        cpu_quota: number(update.cpu_quota, old.cpu_quota),
        cpu_shares: number(update.cpu_shares, old.cpu_shares),
        memory_limit_in_bytes: number(update.memory_limit_in_bytes, old.memory_limit_in_bytes),
        oom_score_adj: number(update.oom_score_adj, old.oom_score_adj),
        cpuset_cpus: text(&update.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&update.cpuset_mems, &old.cpuset_mems),
        hugepage_limits: if update.hugepage_limits.is_empty() {
            old.hugepage_limits.clone()
        } else {
            update.hugepage_limits.clone()
        },
        unified,
        // The old one may be less than the new memory alone.
        memory_swap_limit_in_bytes: match update.memory_limit_in_bytes {
            0 => number(update.memory_swap_limit_in_bytes, old.memory_swap_limit_in_bytes),
            _ => update.memory_swap_limit_in_bytes,
        },
    }
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|&value| value > 0)
}
