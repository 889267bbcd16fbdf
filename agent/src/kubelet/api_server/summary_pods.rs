//! The pods of `/stats/summary`: what the runtime counts, beside what the kubelet knows (since when they run, their logs).

use super::volume_stats::Figures;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where containers write.
pub(super) struct Place {
    /// Of their roots.
    pub(super) file_system: Value,
    pub(super) logs: PathBuf,
    pub(super) logs_file_system: Value,
    pub(super) volumes: Figures,
}

/// Every pod that runs. Blocks for looks at the directories of logs.
pub(super) fn pods(stats: &[v1::PodSandboxStats], known: &[Arc<Pod>], place: &Place) -> Value {
    let known: BTreeMap<&str, &Pod> =
        known.iter().filter_map(|pod| Some((pod.metadata.uid.as_deref()?, &**pod))).collect();
    stats.iter().filter_map(|stats| pod(stats, &known, place)).collect()
}

/// Containers by their pods, as their labels name them.
pub(super) fn of_containers(stats: Vec<v1::ContainerStats>) -> Vec<v1::PodSandboxStats> {
    let mut pods = BTreeMap::<_, Vec<v1::ContainerStats>>::new();
    for stats in stats {
        let Some(attributes) = &stats.attributes else { continue };
        let label = |name: &str| attributes.labels.get(name).cloned().unwrap_or_default();
        let names = ["io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"];
        pods.entry(names.map(label)).or_default().push(stats);
    }
    let pod = |([name, namespace, uid], containers): ([String; 3], Vec<v1::ContainerStats>)| {
        let metadata = Some(v1::PodSandboxMetadata { name, namespace, uid, attempt: 0 });
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes { metadata, ..Default::default() }),
            linux: Some(v1::LinuxPodSandboxStats { containers, ..Default::default() }),
            windows: None,
        }
    };
    pods.into_iter().map(pod).collect()
}

fn pod(stats: &v1::PodSandboxStats, known: &BTreeMap<&str, &Pod>, place: &Place) -> Option<Value> {
    let metadata = stats.attributes.as_ref()?.metadata.as_ref()?;
    let linux = stats.linux.as_ref()?;
    let object = known.get(metadata.uid.as_str()).copied();
    let status = object.and_then(|pod| pod.status.as_ref());
    let directory = place.logs.join(format!("{}_{}_{}", metadata.namespace, metadata.name, metadata.uid));
    let containers: Vec<Value> =
        linux.containers.iter().map(|stats| container(stats, object, &directory, place)).collect();
    let sum = |path: &str| containers.iter().filter_map(|one| one.pointer(path)?.as_u64()).sum::<u64>();
    let mut cpu = cpu(linux.cpu.as_ref());
    if let Some(cpu) = cpu.as_object_mut() {
        cpu.insert("usageNanoCores".into(), json!(sum("/cpu/usageNanoCores")));
    }
    let on_disk = |member: &str| place.volumes.on_disk(&metadata.uid, member);
    let ephemeral = used_of(
        &place.file_system,
        sum("/rootfs/usedBytes") + sum("/logs/usedBytes") + on_disk("usedBytes"),
        sum("/rootfs/inodesUsed") + on_disk("inodesUsed"),
    );
    Some(json!({
        "podRef": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "startTime": status.and_then(|status| Some(status.start_time.as_ref()?.0.to_string())),
        "cpu": cpu,
        "memory": memory(linux.memory.as_ref()),
        "swap": swap(&containers),
        "network": linux.network.as_ref().map(network),
        "volume": place.volumes.of(&metadata.uid),
        "ephemeral-storage": ephemeral,
        "process_stats": linux.process.as_ref().map(|process| json!({"process_count": number(&process.process_count)})),
        "containers": containers,
    }))
}

/// That of the containers together, where the kernel counts it.
fn swap(containers: &[Value]) -> Value {
    let counted = |one: &Value| {
        let swap = one.get("swap")?;
        Some((swap.get("time")?.clone(), swap.get("swapUsageBytes")?.as_u64()?))
    };
    let all: Vec<(Value, u64)> = containers.iter().filter_map(counted).collect();
    let used = all.iter().map(|(_, used)| used).sum::<u64>();
    all.first().map_or(Value::Null, |(time, _)| json!({"time": time, "swapUsageBytes": used}))
}

fn container(stats: &v1::ContainerStats, pod: Option<&Pod>, logs: &Path, place: &Place) -> Value {
    let metadata = stats.attributes.as_ref().and_then(|attributes| attributes.metadata.as_ref());
    let name = metadata.map(|metadata| metadata.name.as_str()).unwrap_or_default();
    let layer = stats.writable_layer.as_ref();
    let (bytes, files) = logs_of(&logs.join(name));
    let root = |layer: &v1::FilesystemUsage| {
        let (bytes, inodes) = (number(&layer.used_bytes), number(&layer.inodes_used));
        used_of(&place.file_system, bytes.unwrap_or_default(), inodes.unwrap_or_default())
    };
    json!({
        "name": name,
        "startTime": pod.and_then(|pod| started(pod, name)),
        "cpu": cpu(stats.cpu.as_ref()),
        "memory": memory(stats.memory.as_ref()),
        "swap": stats.swap.as_ref().map(|swap| json!({
            "time": time(swap.timestamp),
            "swapAvailableBytes": number(&swap.swap_available_bytes),
            "swapUsageBytes": number(&swap.swap_usage_bytes),
        })),
        "rootfs": layer.map(root),
        "logs": used_of(&place.logs_file_system, bytes, files),
    })
}

/// Since when a container runs.
pub(super) fn started(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|status| status.name == container)?;
    Some(found.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0.to_string())
}

fn number(value: &Option<v1::UInt64Value>) -> Option<u64> {
    value.as_ref().map(|value| value.value)
}

fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default().to_string()
}

fn cpu(cpu: Option<&v1::CpuUsage>) -> Value {
    let Some(cpu) = cpu else { return Value::Null };
    json!({
        "time": time(cpu.timestamp),
        "usageNanoCores": number(&cpu.usage_nano_cores),
        "usageCoreNanoSeconds": number(&cpu.usage_core_nano_seconds),
    })
}

fn memory(memory: Option<&v1::MemoryUsage>) -> Value {
    let Some(memory) = memory else { return Value::Null };
    json!({
        "time": time(memory.timestamp),
        "availableBytes": number(&memory.available_bytes),
        "usageBytes": number(&memory.usage_bytes),
        "workingSetBytes": number(&memory.working_set_bytes),
        "rssBytes": number(&memory.rss_bytes),
        "pageFaults": number(&memory.page_faults),
        "majorPageFaults": number(&memory.major_page_faults),
    })
}

fn network(network: &v1::NetworkUsage) -> Value {
    let link = |link: &v1::NetworkInterfaceUsage| {
        json!({
            "name": link.name,
            "rxBytes": number(&link.rx_bytes),
            "rxErrors": number(&link.rx_errors),
            "txBytes": number(&link.tx_bytes),
            "txErrors": number(&link.tx_errors),
        })
    };
    let all = network.default_interface.iter().chain(&network.interfaces).map(link).collect();
    of_links(all, &time(network.timestamp))
}

/// The first is the default one, whose figures stand for the whole too.
fn of_links(all: Vec<Value>, time: &str) -> Value {
    let mut network = all.first().cloned().unwrap_or_else(|| json!({}));
    if let Some(members) = network.as_object_mut() {
        members.insert("time".into(), json!(time));
        members.insert("interfaces".into(), json!(all));
    }
    network
}

/// The machine's links, from `/proc/net/dev`; the one that its default route names comes first.
pub(super) fn links(dev: &str, route: &str, time: &str) -> Value {
    let default = route
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .find(|(_, rest)| rest.starts_with("00000000\t"));
    let default = default.map(|(name, _)| name).unwrap_or_default();
    let one = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|count| count.parse().ok()).collect();
        let at = |index: usize| counts.get(index).copied();
        (name.trim() != "lo").then(|| {
            json!({"name": name.trim(), "rxBytes": at(0), "rxErrors": at(2), "txBytes": at(8), "txErrors": at(10)})
        })
    };
    let mut all: Vec<Value> = dev.lines().filter_map(one).collect();
    all.sort_by_key(|link| link.get("name").and_then(Value::as_str) != Some(default));
    of_links(all, time)
}

/// The file system that a path is on, or will be on when it is made; null where it cannot be asked.
pub(super) fn file_system(path: &Path) -> Value {
    let mut nearest = path.ancestors();
    let Some(found) = nearest.find_map(|path| rustix::fs::statvfs(path).ok()) else { return Value::Null };
    json!({
        "time": Timestamp::now().to_string(),
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize,
        "inodesFree": found.f_ffree,
        "inodes": found.f_files,
        "inodesUsed": found.f_files.saturating_sub(found.f_ffree),
    })
}

/// The same file system, of which so much is used for one thing.
pub(super) fn used_of(file_system: &Value, bytes: u64, inodes: u64) -> Value {
    let mut part = file_system.clone();
    if let Some(members) = part.as_object_mut() {
        members.insert("usedBytes".into(), json!(bytes));
        members.insert("inodesUsed".into(), json!(inodes));
    }
    part
}

/// Bytes and number of a container's log files.
fn logs_of(directory: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    sizes.fold((0, 0), |(bytes, files), size| (bytes + size, files + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_summed_up_where_it_is_counted() {
        let one = |used: Value| json!({"swap": {"time": "t", "swapUsageBytes": used}});
        assert_eq!(
            swap(&[one(json!(2)), one(Value::Null), one(json!(3))]),
            json!({"time": "t", "swapUsageBytes": 5})
        );
        assert_eq!(swap(&[one(Value::Null)]), Value::Null);
    }

    #[test]
    fn the_default_link_comes_first_and_stands_for_the_whole() {
        let dev = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                   veth0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n  eth0: 7 1 2 0 0 0 0 0 8 1 3 0 0 0 0 0\n";
        let route = "Iface\tDestination\tGateway\neth0\t00000000\t0101A8C0\t0003\n";
        let found = links(dev, route, "now");
        assert_eq!((found["name"].as_str(), found["txErrors"].as_u64()), (Some("eth0"), Some(3)));
        let names: Vec<_> =
            found["interfaces"].as_array().unwrap().iter().map(|link| &link["name"]).collect();
        assert_eq!(names, ["eth0", "veth0"]);
    }

    #[test]
    fn a_container_is_told_of_since_it_runs() {
        let pod: Pod = serde_json::from_value(json!({"status": {"containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
             "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
        ]}}))
        .unwrap();
        assert_eq!(started(&pod, "a").as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(started(&pod, "b"), None);
    }
}
