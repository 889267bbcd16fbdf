//! `/stats/summary`: the node and its pods in JSON, as far as the runtime's statistics go.

use super::Shared;
use super::respond::{Body, Refusal, json};
use http::Response;
use jiff::Timestamp;
use knarr_cri::v1;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `USER_HZ`: the unit of CPU times in /proc, the same on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) async fn answer(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let request = v1::ListContainerStatsRequest { filter: None };
    let stats = shared.runtime.list_container_stats(request).await?.stats;
    let node = tokio::task::spawn_blocking(|| (node_cpu_seconds(), node_working_set()));
    let (cpu, memory) = node.await.map_err(Refusal::internal)?;
    let now = Timestamp::now().to_string();
    Ok(json(&json!({
        "node": {
            "nodeName": shared.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": (cpu * 1e9) as u64},
            "memory": {"time": now, "workingSetBytes": memory},
        },
        "pods": pods(&stats),
    })))
}

fn pods(stats: &[v1::ContainerStats]) -> Vec<Value> {
    let mut pods = BTreeMap::<_, Vec<Value>>::new();
    for stats in stats {
        let Some(attributes) = &stats.attributes else { continue };
        let label = |name: &str| attributes.labels.get(name).cloned().unwrap_or_default();
        let names = ["io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"];
        pods.entry(names.map(label))
            .or_default()
            .push(container(stats, &label("io.kubernetes.container.name")));
    }
    let pod = |([name, namespace, uid], containers): ([String; 3], Vec<Value>)| json!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "containers": containers});
    pods.into_iter().map(pod).collect()
}

fn container(stats: &v1::ContainerStats, name: &str) -> Value {
    let time = |nanoseconds: i64| {
        let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
        time.to_string()
    };
    let value = |value: &Option<v1::UInt64Value>| value.as_ref().map(|value| value.value);
    json!({
        "name": name,
        "cpu": stats.cpu.as_ref().map(|cpu| json!({
            "time": time(cpu.timestamp),
            "usageCoreNanoSeconds": value(&cpu.usage_core_nano_seconds),
            "usageNanoCores": value(&cpu.usage_nano_cores),
        })),
        "memory": stats.memory.as_ref().map(|memory| json!({
            "time": time(memory.timestamp),
            "workingSetBytes": value(&memory.working_set_bytes),
            "usageBytes": value(&memory.usage_bytes),
            "rssBytes": value(&memory.rss_bytes),
            "availableBytes": value(&memory.available_bytes),
        })),
        "rootfs": stats.writable_layer.as_ref().map(|layer| json!({
            "time": time(layer.timestamp),
            "usedBytes": value(&layer.used_bytes),
            "inodesUsed": value(&layer.inodes_used),
        })),
    })
}

/// CPU time of the whole machine, without idling and waiting. Blocks for a read of /proc.
pub(super) fn node_cpu_seconds() -> f64 {
    cpu_seconds(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// Memory in use that cannot be taken back without cost. Blocks for a read of /proc.
pub(super) fn node_working_set() -> u64 {
    working_set(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, ...
fn cpu_seconds(stat: &str) -> f64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    let busy = ticks.iter().take(8).enumerate().filter(|(field, _)| !matches!(field, 3 | 4));
    busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_PER_SECOND
}

fn working_set(meminfo: &str) -> u64 {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    kib("MemTotal:").saturating_sub(kib("MemAvailable:")) << 10
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
