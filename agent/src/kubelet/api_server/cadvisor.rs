//! `/metrics/cadvisor`: every container and pod in the names that cAdvisor has given to such figures, which is what
//! dashboards and alerts are written for.

use super::Shared;
use super::prometheus::{CONTENT_TYPE, Exposition};
use super::respond::{Body, Refusal, full, typed};
use crate::kubelet::{labels, machine};
use http::{Response, StatusCode};
use knarr_cri::v1::{
    ContainerStats, ListContainerStatsRequest, ListPodSandboxStatsRequest, NetworkInterfaceUsage,
    PodSandboxStats, UInt64Value,
};
use std::collections::HashMap;

pub(super) async fn answer(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let request = ListContainerStatsRequest { filter: None };
    let containers = shared.runtime.list_container_stats(request).await?.stats;
    let request = ListPodSandboxStatsRequest { filter: None };
    // A runtime that knows no statistics of pods still knows those of containers.
    let pods = shared.runtime.list_pod_sandbox_stats(request).await.map(|answer| answer.stats);
    let memory = tokio::task::spawn_blocking(|| machine::meminfo("MemTotal").unwrap_or(0)).await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = Exposition::default();
    text.single("machine_cpu_cores", "gauge", "Number of logical CPU cores.", cores);
    let help = "Amount of memory installed on the machine.";
    text.single("machine_memory_bytes", "gauge", help, memory.map_err(Refusal::internal)?);
    for figure in FIGURES {
        text.family(figure.name, figure.kind, figure.help);
        for stats in &containers {
            if let Some(value) = (figure.value)(stats) {
                row(&mut text, figure.name, stats, value);
            }
        }
    }
    network(&mut text, &pods.unwrap_or_default());
    Ok(typed(StatusCode::OK, CONTENT_TYPE, full(text.finish())))
}

/// One figure of a container.
struct Figure {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ContainerStats) -> Option<f64>,
}

fn number(value: Option<UInt64Value>) -> Option<f64> {
    value.map(|value| value.value as f64)
}

const FIGURES: [Figure; 8] = [
    Figure {
        name: "container_cpu_usage_seconds_total",
        kind: "counter",
        help: "Cumulative cpu time consumed in seconds.",
        value: |stats| number(stats.cpu.as_ref()?.usage_core_nano_seconds).map(|nanos| nanos / 1e9),
    },
    Figure {
        name: "container_memory_working_set_bytes",
        kind: "gauge",
        help: "Current working set in bytes.",
        value: |stats| number(stats.memory.as_ref()?.working_set_bytes),
    },
    Figure {
        name: "container_memory_usage_bytes",
        kind: "gauge",
        help: "Current memory usage in bytes, including all memory regardless of when it was accessed",
        value: |stats| number(stats.memory.as_ref()?.usage_bytes),
    },
    Figure {
        name: "container_memory_rss",
        kind: "gauge",
        help: "Size of RSS in bytes.",
        value: |stats| number(stats.memory.as_ref()?.rss_bytes),
    },
    Figure {
        name: "container_memory_failures_page_faults_total",
        kind: "counter",
        help: "Cumulative count of page faults.",
        value: |stats| number(stats.memory.as_ref()?.page_faults),
    },
    Figure {
        name: "container_fs_usage_bytes",
        kind: "gauge",
        help: "Number of bytes that are consumed by the container on this filesystem.",
        value: |stats| number(stats.writable_layer.as_ref()?.used_bytes),
    },
    Figure {
        name: "container_fs_inodes_used",
        kind: "gauge",
        help: "Number of inodes that the container uses.",
        value: |stats| number(stats.writable_layer.as_ref()?.inodes_used),
    },
    Figure {
        name: "container_last_seen",
        kind: "gauge",
        help: "Last time a container was seen by the exporter",
        value: |stats| Some(stats.cpu.as_ref()?.timestamp as f64 / 1e9),
    },
];

fn row(text: &mut Exposition, name: &str, stats: &ContainerStats, value: f64) {
    let Some(attributes) = &stats.attributes else { return };
    let label = |key: &str| of(&attributes.labels, key);
    text.row(
        name,
        &[
            ("container", label(labels::CONTAINER_NAME)),
            ("id", &attributes.id),
            ("name", &attributes.id),
            ("namespace", label(labels::POD_NAMESPACE)),
            ("pod", label(labels::POD_NAME)),
        ],
        value,
    );
}

fn of<'a>(labels: &'a HashMap<String, String>, key: &str) -> &'a str {
    labels.get(key).map(String::as_str).unwrap_or_default()
}

/// Name, help and the figure itself.
type NetworkFigure = (&'static str, &'static str, fn(&NetworkInterfaceUsage) -> Option<UInt64Value>);

const NETWORK: [NetworkFigure; 4] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |usage| usage.rx_bytes),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |usage| usage.rx_errors,
    ),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |usage| {
        usage.tx_bytes
    }),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |usage| usage.tx_errors,
    ),
];

fn network(text: &mut Exposition, pods: &[PodSandboxStats]) {
    for (name, help, figure) in NETWORK {
        text.family(name, "counter", help);
        for pod in pods {
            let network = pod.linux.as_ref().and_then(|linux| linux.network.as_ref());
            let interface = network.and_then(|network| network.default_interface.as_ref());
            let (Some(attributes), Some(interface)) = (&pod.attributes, interface) else { continue };
            let Some(value) = number(figure(interface)) else { continue };
            let labels = [
                ("interface", interface.name.as_str()),
                ("namespace", of(&attributes.labels, labels::POD_NAMESPACE)),
                ("pod", of(&attributes.labels, labels::POD_NAME)),
            ];
            text.row(name, &labels, value);
        }
    }
}
