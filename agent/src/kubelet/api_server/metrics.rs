//! `/metrics/resource`: CPU and memory of containers and pods in Prometheus' text format, what a metrics server reads
//! for `kubectl top`.

use super::Shared;
use super::respond::{Body, Refusal, full, typed};
use super::summary::{node_cpu_seconds, node_working_set};
use http::{Response, StatusCode};
use knarr_cri::v1;
use std::fmt::Write;

/// One gathered container.
struct Sample {
    namespace: String,
    pod: String,
    container: String,
    cpu_seconds: f64,
    working_set: u64,
}

pub(super) async fn resource(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let samples = gather(shared).await?;
    let node = tokio::task::spawn_blocking(|| (node_cpu_seconds(), node_working_set()));
    let (cpu, memory) = node.await.map_err(Refusal::internal)?;
    let body = full(render(&samples, cpu, memory));
    Ok(typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body))
}

async fn gather(shared: &Shared) -> Result<Vec<Sample>, Refusal> {
    let stats =
        shared.runtime.list_container_stats(v1::ListContainerStatsRequest { filter: None }).await?.stats;
    Ok(stats.iter().filter_map(sample).collect())
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
    })
}

fn render(samples: &[Sample], node_cpu: f64, node_memory: u64) -> String {
    let mut text = String::new();
    let container = |sample: &Sample| {
        let Sample { namespace, pod, container, .. } = sample;
        format!("{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}}")
    };
    family(
        &mut text,
        "container_cpu_usage_seconds_total",
        "counter",
        "CPU time of the container in core-seconds",
    );
    for sample in samples {
        row(&mut text, "container_cpu_usage_seconds_total", &container(sample), sample.cpu_seconds);
    }
    family(&mut text, "container_memory_working_set_bytes", "gauge", "Working set of the container in bytes");
    for sample in samples {
        row(&mut text, "container_memory_working_set_bytes", &container(sample), sample.working_set as f64);
    }
    family(&mut text, "node_cpu_usage_seconds_total", "counter", "CPU time of the node in core-seconds");
    row(&mut text, "node_cpu_usage_seconds_total", "", node_cpu);
    family(&mut text, "node_memory_working_set_bytes", "gauge", "Working set of the node in bytes");
    row(&mut text, "node_memory_working_set_bytes", "", node_memory as f64);
    pods(&mut text, samples);
    family(
        &mut text,
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting metrics, 0 otherwise",
    );
    row(&mut text, "resource_scrape_error", "", 0.0);
    text
}

/// A pod's figures are the sums of its containers'.
fn pods(text: &mut String, samples: &[Sample]) {
    let mut sums = std::collections::BTreeMap::<_, (f64, u64)>::new();
    for sample in samples {
        let sum = sums.entry((&sample.namespace, &sample.pod)).or_default();
        *sum = (sum.0 + sample.cpu_seconds, sum.1 + sample.working_set);
    }
    family(text, "pod_cpu_usage_seconds_total", "counter", "CPU time of the pod in core-seconds");
    for ((namespace, pod), (cpu, _)) in &sums {
        row(
            text,
            "pod_cpu_usage_seconds_total",
            &format!("{{namespace=\"{namespace}\",pod=\"{pod}\"}}"),
            *cpu,
        );
    }
    family(text, "pod_memory_working_set_bytes", "gauge", "Working set of the pod in bytes");
    for ((namespace, pod), (_, memory)) in &sums {
        let labels = format!("{{namespace=\"{namespace}\",pod=\"{pod}\"}}");
        row(text, "pod_memory_working_set_bytes", &labels, *memory as f64);
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn row(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "{name}{labels} {value}");
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
        };
        let text = render(&[sample("a", 1.5, 100), sample("b", 2.0, 50)], 10.0, 1000);
        assert!(
            text.contains("pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 3.5\n"),
            "{text}"
        );
        assert!(text.contains("pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 150\n"));
        assert!(text.contains(
            "container_memory_working_set_bytes{container=\"b\",namespace=\"default\",pod=\"web\"} 50\n"
        ));
    }
}
