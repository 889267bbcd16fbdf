//! `/metrics/resource`: CPU and memory of containers and pods in Prometheus' text format, what a metrics server reads
//! for `kubectl top`.

use super::Shared;
use super::prometheus::{CONTENT_TYPE, Exposition};
use super::respond::{Body, Refusal, full, typed};
use super::summary::{node_cpu_seconds, node_working_set};
use http::{Response, StatusCode};
use knarr_cri::v1;

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
    Ok(typed(StatusCode::OK, CONTENT_TYPE, body))
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
    let mut text = Exposition::default();
    let labels = |sample: &Sample| {
        [
            ("container", sample.container.clone()),
            ("namespace", sample.namespace.clone()),
            ("pod", sample.pod.clone()),
        ]
    };
    let cpu = "container_cpu_usage_seconds_total";
    text.family(cpu, "counter", "CPU time of the container in core-seconds");
    for sample in samples {
        text.row(
            cpu,
            &labels(sample).each_ref().map(|(name, value)| (*name, value.as_str())),
            sample.cpu_seconds,
        );
    }
    let memory = "container_memory_working_set_bytes";
    text.family(memory, "gauge", "Working set of the container in bytes");
    for sample in samples {
        text.row(
            memory,
            &labels(sample).each_ref().map(|(name, value)| (*name, value.as_str())),
            sample.working_set,
        );
    }
    let help = "CPU time of the node in core-seconds";
    text.single("node_cpu_usage_seconds_total", "counter", help, node_cpu);
    let help = "Working set of the node in bytes";
    text.single("node_memory_working_set_bytes", "gauge", help, node_memory);
    pods(&mut text, samples);
    let help = "1 if there was an error while getting metrics, 0 otherwise";
    text.single("resource_scrape_error", "gauge", help, 0);
    text.finish()
}

/// A pod's figures are the sums of its containers'.
fn pods(text: &mut Exposition, samples: &[Sample]) {
    let mut sums = std::collections::BTreeMap::<_, (f64, u64)>::new();
    for sample in samples {
        let sum = sums.entry((sample.namespace.as_str(), sample.pod.as_str())).or_default();
        *sum = (sum.0 + sample.cpu_seconds, sum.1 + sample.working_set);
    }
    text.family("pod_cpu_usage_seconds_total", "counter", "CPU time of the pod in core-seconds");
    for ((namespace, pod), (cpu, _)) in &sums {
        text.row("pod_cpu_usage_seconds_total", &[("namespace", namespace), ("pod", pod)], *cpu);
    }
    text.family("pod_memory_working_set_bytes", "gauge", "Working set of the pod in bytes");
    for ((namespace, pod), (_, memory)) in &sums {
        text.row("pod_memory_working_set_bytes", &[("namespace", namespace), ("pod", pod)], *memory);
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
