//! `/stats/summary`: the node and its pods in JSON, in the kubelet's words, as far as the kernel's and the runtime's
//! statistics go. What is not known is left out.

use super::Shared;
use super::respond::{Body, Refusal, json};
use super::summary_pods::{self, Place, file_system};
use super::volume_stats;
use crate::kubelet::paths::Paths;
use http::Response;
use jiff::Timestamp;
use knarr_cri::v1;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

/// `USER_HZ`: the unit of CPU times in /proc, the same on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) async fn answer(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let stats = gather(shared).await?;
    let (images, kubelet) = (shared.config.data_dir.join("images"), shared.config.kubelet_dir());
    let logs = shared.config.pod_logs_dir.clone();
    let (known, name) = ((shared.pods)(), shared.node_name.clone());
    let claimed = volume_stats::claimed(shared, &known).await;
    let gathered = tokio::task::spawn_blocking(move || {
        let held = [volume_stats::own(&Paths::new(&kubelet, &logs), &known), claimed].concat();
        let (file_system, logs_file_system) = (file_system(&images), file_system(&kubelet));
        let place = Place { file_system, logs, logs_file_system, volumes: volume_stats::measure(&held) };
        (node(&name, &kubelet, &images), summary_pods::pods(&stats, &known, &place))
    });
    let (mut node, pods) = gathered.await.map_err(Refusal::internal)?;
    let total = node_cpu_seconds();
    if let Some(cpu) = node.get_mut("cpu").and_then(Value::as_object_mut) {
        cpu.insert("usageNanoCores".into(), json!(rate(shared, total)));
    }
    Ok(json(&json!({"node": without_nulls(node), "pods": without_nulls(pods)})))
}

/// What the runtime counts; of containers alone where it knows no more (runtimes of before CRI's statistics of pods).
async fn gather(shared: &Shared) -> Result<Vec<v1::PodSandboxStats>, Refusal> {
    let request = v1::ListPodSandboxStatsRequest { filter: None };
    if let Ok(pods) = shared.runtime.list_pod_sandbox_stats(request).await {
        return Ok(pods.stats);
    }
    let request = v1::ListContainerStatsRequest { filter: None };
    Ok(summary_pods::of_containers(shared.runtime.list_container_stats(request).await?.stats))
}

/// Nanoseconds of processor time per second since the last look.
fn rate(shared: &Shared, total: f64) -> Option<u64> {
    let now = Instant::now();
    let mut last = shared.last_cpu.lock().unwrap_or_else(PoisonError::into_inner);
    let (then, before) = last.replace((now, total))?;
    let elapsed = now.duration_since(then).as_secs_f64();
    (elapsed > 0.0).then(|| ((total - before).max(0.0) / elapsed * 1e9) as u64)
}

fn node(name: &str, kubelet: &Path, images: &Path) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (stat, meminfo, vmstat) = (read("/proc/stat"), read("/proc/meminfo"), read("/proc/vmstat"));
    let now = Timestamp::now().to_string();
    let field = |text: &str, name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    let bytes = |name: &str| field(&meminfo, name).map(|kib| kib << 10);
    let (total, used) = (bytes("MemTotal:"), working_set(&meminfo));
    let booted =
        field(&stat, "btime ").and_then(|seconds| Timestamp::from_second(seconds.cast_signed()).ok());
    let image_fs = file_system(images);
    json!({
        "nodeName": name,
        "startTime": booted.map(|time| time.to_string()),
        "cpu": {"time": now, "usageCoreNanoSeconds": (cpu_seconds(&stat) * 1e9) as u64},
        "memory": {
            "time": now,
            "availableBytes": total.map(|total| total.saturating_sub(used)),
            "usageBytes": total.zip(bytes("MemFree:")).map(|(total, free)| total - free),
            "workingSetBytes": used,
            "rssBytes": bytes("AnonPages:"),
            "pageFaults": field(&vmstat, "pgfault "),
            "majorPageFaults": field(&vmstat, "pgmajfault "),
        },
        "swap": {
            "time": now,
            "swapAvailableBytes": bytes("SwapFree:"),
            "swapUsageBytes": bytes("SwapTotal:").zip(bytes("SwapFree:")).map(|(total, free)| total - free),
        },
        "network": summary_pods::links(&read("/proc/net/dev"), &read("/proc/net/route"), &now),
        "fs": file_system(kubelet),
        "runtime": {"imageFs": image_fs, "containerFs": image_fs},
        "rlimit": {
            "time": now,
            "maxpid": field(&read("/proc/sys/kernel/pid_max"), ""),
            "curproc": running_tasks(&read("/proc/loadavg")),
        },
    })
}

/// The fourth field: those that run, and all.
fn running_tasks(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Objects without the members that are null.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// CPU time of the whole machine, without idling and waiting. Blocks for a read of /proc.
pub(super) fn node_cpu_seconds() -> f64 {
    cpu_seconds(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// Memory in use that cannot be taken back without cost. Blocks for a read of /proc.
pub(super) fn node_working_set() -> u64 {
    working_set(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// Swap in use. Blocks for a read of /proc.
pub(super) fn node_swap() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (kib(&meminfo, "SwapTotal:").saturating_sub(kib(&meminfo, "SwapFree:"))) << 10
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, ...
fn cpu_seconds(stat: &str) -> f64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    let busy = ticks.iter().take(8).enumerate().filter(|(field, _)| !matches!(field, 3 | 4));
    busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_PER_SECOND
}

fn working_set(meminfo: &str) -> u64 {
    kib(meminfo, "MemTotal:").saturating_sub(kib(meminfo, "MemAvailable:")) << 10
}

/// One row of it.
fn kib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        assert_eq!(cpu_seconds("cpu  100 100 200 9999 9999 0 0 0 50 0\ncpu0 1 1 1"), 4.0);
        assert_eq!(working_set("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n"), 600 << 10);
    }
}
