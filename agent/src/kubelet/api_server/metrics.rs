//! `/metrics/resource`: CPU and memory of containers and pods in Prometheus' text format, what a metrics server reads
//! for `kubectl top`.

use super::Shared;
use super::prometheus::{CONTENT_TYPE, Exposition};
use super::respond::{Body, Refusal, full, typed};
use super::summary::{node_cpu_seconds, node_swap, node_working_set};
use super::summary_pods;
use crate::kubelet::pod;
use http::{Response, StatusCode};
use knarr_cri::v1;

/// One gathered container.
struct Sample {
    namespace: String,
    pod: String,
    container: String,
    cpu_seconds: f64,
    working_set: u64,
    swap: Option<u64>,
    /// Seconds since the epoch.
    started: Option<f64>,
}

/// The whole machine.
struct Machine {
    cpu_seconds: f64,
    working_set: u64,
    swap: u64,
}

pub(super) async fn resource(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let samples = gather(shared).await?;
    let node = tokio::task::spawn_blocking(|| Machine {
        cpu_seconds: node_cpu_seconds(),
        working_set: node_working_set(),
        swap: node_swap(),
    });
    let body = full(render(&samples, &node.await.map_err(Refusal::internal)?));
    Ok(typed(StatusCode::OK, CONTENT_TYPE, body))
}

async fn gather(shared: &Shared) -> Result<Vec<Sample>, Refusal> {
    let stats =
        shared.runtime.list_container_stats(v1::ListContainerStatsRequest { filter: None }).await?.stats;
    let pods = (shared.pods)();
    let started = |pod: &str, namespace: &str, container: &str| {
        let pod = pods.iter().find(|known| pod::name(known) == pod && pod::namespace(known) == namespace)?;
        let time: jiff::Timestamp = summary_pods::started(pod, container)?.parse().ok()?;
        Some(time.as_nanosecond() as f64 / 1e9)
    };
    let mut samples: Vec<Sample> = stats.iter().filter_map(sample).collect();
    for sample in &mut samples {
        sample.started = started(&sample.pod, &sample.namespace, &sample.container);
    }
    Ok(samples)
}

fn sample(stats: &v1::ContainerStats) -> Option<Sample> {
    let attributes = stats.attributes.as_ref()?;
    let label = |name: &str| attributes.labels.get(name).cloned();
    let cpu = stats.cpu.as_ref()?.usage_core_nano_seconds.as_ref()?.value;
    Some(Sample {
        namespace: label("io.kubernetes.pod.namespace")?,
        pod: label("io.kubernetes.pod.name")?,
        container: label("io.kubernetes.container.name")?,
        cpu_seconds: cpu as f64 / 1e9,
        working_set: stats.memory.as_ref()?.working_set_bytes.as_ref()?.value,
        swap: stats.swap.as_ref().and_then(|swap| Some(swap.swap_usage_bytes.as_ref()?.value)),
        started: None,
    })
}

fn render(samples: &[Sample], node: &Machine) -> String {
    let mut text = Exposition::default();
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Sample) -> Option<f64>| {
        text.family(name, kind, help);
        for sample in samples {
            let labels =
                [("container", &*sample.container), ("namespace", &*sample.namespace), ("pod", &*sample.pod)];
            value(sample).into_iter().for_each(|value| text.row(name, &labels, value));
        }
    };
    let help = "CPU time of the container in core-seconds";
    family("container_cpu_usage_seconds_total", "counter", help, &|sample| Some(sample.cpu_seconds));
    let help = "Working set of the container in bytes";
    family("container_memory_working_set_bytes", "gauge", help, &|sample| Some(sample.working_set as f64));
    let help = "Start time of the container since unix epoch in seconds";
    family("container_start_time_seconds", "gauge", help, &|sample| sample.started);
    let help = "Swap usage of the container in bytes";
    family("container_swap_usage_bytes", "gauge", help, &|sample| sample.swap.map(|swap| swap as f64));
    let help = "CPU time of the node in core-seconds";
    text.single("node_cpu_usage_seconds_total", "counter", help, node.cpu_seconds);
    let help = "Working set of the node in bytes";
    text.single("node_memory_working_set_bytes", "gauge", help, node.working_set);
    text.single("node_swap_usage_bytes", "gauge", "Swap usage of the node in bytes", node.swap);
    pods(&mut text, samples);
    let help = "1 if there was an error while getting metrics, 0 otherwise";
    text.single("resource_scrape_error", "gauge", help, 0);
    text.finish()
}

/// A pod's figures are the sums of its containers'.
fn pods(text: &mut Exposition, samples: &[Sample]) {
    let mut sums = std::collections::BTreeMap::<_, (f64, u64, u64)>::new();
    for sample in samples {
        let sum = sums.entry((sample.namespace.as_str(), sample.pod.as_str())).or_default();
        let swap = sample.swap.unwrap_or_default();
        *sum = (sum.0 + sample.cpu_seconds, sum.1 + sample.working_set, sum.2 + swap);
    }
    text.family("pod_cpu_usage_seconds_total", "counter", "CPU time of the pod in core-seconds");
    for ((namespace, pod), (cpu, ..)) in &sums {
        text.row("pod_cpu_usage_seconds_total", &[("namespace", namespace), ("pod", pod)], *cpu);
    }
    text.family("pod_memory_working_set_bytes", "gauge", "Working set of the pod in bytes");
    for ((namespace, pod), (_, memory, _)) in &sums {
        text.row("pod_memory_working_set_bytes", &[("namespace", namespace), ("pod", pod)], *memory);
    }
    text.family("pod_swap_usage_bytes", "gauge", "Swap usage of the pod in bytes");
    for ((namespace, pod), (.., swap)) in &sums {
        text.row("pod_swap_usage_bytes", &[("namespace", namespace), ("pod", pod)], *swap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_the_sums_of_their_containers() {
        let sample = |container: &str, cpu_seconds, working_set| Sample {
            namespace: "default".into(),
            pod: "web".into(),
            container: container.into(),
            cpu_seconds,
            working_set,
            swap: Some(4),
            started: Some(1.5),
        };
        let node = Machine { cpu_seconds: 10.0, working_set: 1000, swap: 7 };
        let text = render(&[sample("a", 1.5, 100), sample("b", 2.0, 50)], &node);
        assert!(
            text.contains("pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 3.5\n"),
            "{text}"
        );
        assert!(text.contains("pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 150\n"));
        assert!(text.contains("pod_swap_usage_bytes{namespace=\"default\",pod=\"web\"} 8\n"));
        assert!(text.contains("node_swap_usage_bytes 7\n"), "{text}");
        let started = "container_start_time_seconds{container=\"a\",namespace=\"default\",pod=\"web\"} 1.5\n";
        assert!(text.contains(started), "{text}");
        assert!(text.contains(
            "container_memory_working_set_bytes{container=\"b\",namespace=\"default\",pod=\"web\"} 50\n"
        ));
    }
}
