//! `--memory`, `--cpus`, `--ulimit` and their like.

use super::{cpuset, sizes};
use crate::args::Limits;
use anyhow::{Context, bail};
use knarr_agent::cri::v1::LinuxContainerResources;

/// CFS period in microseconds, as Docker and the kubelet use it.
pub(in crate::standalone) const CPU_PERIOD: i64 = 100_000;

/// The limits that CRI has words for.
pub(in crate::standalone) fn resources(
    limits: &Limits,
    oom_score_adj: Option<i64>,
) -> anyhow::Result<LinuxContainerResources> {
    let mut resources = LinuxContainerResources {
        cpu_shares: limits.share.cpu_shares.unwrap_or(0),
        cpuset_cpus: limits.share.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.share.cpuset_mems.clone().unwrap_or_default(),
        oom_score_adj: oom_score_adj.unwrap_or(0),
        ..Default::default()
    };
    // None is as much as there is.
    if let Some(memory) = limits.share.memory.as_ref().filter(|text| *text != "0") {
        resources.memory_limit_in_bytes = sizes::named("memory", memory)?;
        if resources.memory_limit_in_bytes < 6 << 20 {
            bail!("Minimum memory limit allowed is 6MB");
        }
    }
    match limits.share.memory_swap.as_deref() {
        // As much swap as memory.
        None | Some("0") => {
            resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes.saturating_mul(2);
        }
        Some("-1") => resources.memory_swap_limit_in_bytes = -1,
        Some(swap) => resources.memory_swap_limit_in_bytes = sizes::named("memory-swap", swap)?,
    }
    let reserved = limits.memory_reservation.as_deref().and_then(|text| sizes::bytes(text).ok());
    let memory = resources.memory_limit_in_bytes;
    if memory > 0 && reserved.is_some_and(|reserved| reserved > memory) {
        bail!("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    let (swap, memory) = (resources.memory_swap_limit_in_bytes, resources.memory_limit_in_bytes);
    if memory > 0 && (1..memory).contains(&swap) {
        bail!("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limits.share.memory.is_none() && limits.share.memory_swap.is_some() {
        bail!("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    (resources.cpu_period, resources.cpu_quota) = cpu(limits)?;
    cpuset::check(&limits.share)?;
    if let Some(score) = oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        bail!("Invalid value {score}, range for oom score adj is [-1000, 1000]");
    }
    Ok(resources)
}

fn cpu(limits: &Limits) -> anyhow::Result<(i64, i64)> {
    match (limits.cpus, limits.share.cpu_period, limits.share.cpu_quota) {
        (None, period, quota) => Ok((period.unwrap_or(0), quota.unwrap_or(0))),
        (Some(0.0), None, None) => Ok((0, 0)),
        (Some(cpus), None, None) => {
            let most = processors();
            if !(0.01..=most as f64).contains(&cpus) {
                bail!("range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available");
            }
            Ok((CPU_PERIOD, (cpus * CPU_PERIOD as f64) as i64))
        }
        (Some(_), _, _) => {
            bail!("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.")
        }
    }
}

/// `--memory-swappiness`; -1 is the kernel's own.
pub(super) fn swappiness(wanted: Option<i64>) -> anyhow::Result<Option<u64>> {
    match wanted.filter(|wanted| *wanted != -1) {
        None => Ok(None),
        Some(known @ 0..=100) => Ok(Some(known.unsigned_abs())),
        Some(other) => bail!("invalid value: {other}. Valid memory swappiness range is 0-100"),
    }
}

/// Those that this process may run on, as Docker counts them.
fn processors() -> u32 {
    let allowed = rustix::thread::sched_getaffinity(None);
    allowed.map_or(u32::MAX, |allowed| allowed.count())
}

/// `nofile=1024[:2048]`; -1 is no limit.
pub(crate) fn ulimit(text: &str) -> anyhow::Result<(String, u64, u64)> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, values) = text.split_once('=').with_context(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        bail!("invalid ulimit type: {name}");
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().with_context(|| format!("--ulimit {name}: {text:?} is no number")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        bail!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Share;

    #[test]
    fn limits_of_processes() {
        assert_eq!(ulimit("nofile=1:2").unwrap(), ("nofile".to_owned(), 1, 2));
        assert_eq!(ulimit("core=-1").unwrap(), ("core".to_owned(), u64::MAX, u64::MAX));
        for wrong in ["nofile", "nofile=x", "files=1", "nofile=2:1"] {
            assert!(ulimit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpus_are_a_quota() {
        let limits = Limits { cpus: Some(1.5), ..Limits::default() };
        let resources = resources(&limits, None).unwrap();
        assert_eq!((resources.cpu_period, resources.cpu_quota), (100_000, 150_000));
        assert!(
            cpu(&Limits {
                cpus: Some(1.0),
                share: Share { cpu_quota: Some(5), ..Share::default() },
                ..Limits::default()
            })
            .is_err()
        );
    }
}
