//! `/metrics`: the agent about itself; `/metrics/probes`: results of all probes.

use super::Shared;
use super::prometheus::{CONTENT_TYPE, Exposition};
use super::respond::{Body, Refusal, full, typed};
use super::volume_stats;
use crate::kubelet::node_object::KUBELET_VERSION;
use http::{Response, StatusCode};
use knarr_cri::v1::{ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState};
use std::collections::BTreeMap;

const TICKS_PER_SECOND: f64 = 100.0;

pub(super) async fn own(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let containers = shared.runtime.list_containers(ListContainersRequest::default()).await?.containers;
    let sandboxes = shared.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
    let running = sandboxes.iter().filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady).count();
    let mut states = BTreeMap::<_, u64>::new();
    for container in &containers {
        *states.entry(state_name(container.state())).or_default() += 1;
    }
    let mut text = Exposition::default();
    text.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    text.row("kubelet_node_name", &[("node", &shared.node_name)], 1);
    text.single("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", running);
    text.family("kubelet_running_containers", "gauge", "Number of containers currently running");
    for (state, count) in states {
        text.row("kubelet_running_containers", &[("container_state", state)], count);
    }
    let desired = (shared.pods)().len();
    text.single(
        "kubelet_desired_pods",
        "gauge",
        "The number of pods the kubelet is being instructed to run.",
        desired,
    );
    text.family("kubernetes_build_info", "gauge", "A metric with a constant '1' value labeled by version.");
    text.row("kubernetes_build_info", &[("git_version", KUBELET_VERSION), ("platform", "linux")], 1);
    let claimed = volume_stats::claimed(shared, &(shared.pods)()).await;
    let told = tokio::task::spawn_blocking(move || {
        Process::read().tell(&mut text);
        volume_stats::tell(&claimed, &mut text);
        text
    });
    let text = told.await.map_err(Refusal::internal)?;
    Ok(typed(StatusCode::OK, CONTENT_TYPE, full(text.finish())))
}

fn state_name(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}

/// This process, as /proc shows it.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_files: usize,
}

impl Process {
    /// Blocks for reads of /proc.
    fn read() -> Process {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Process {
            cpu_seconds: cpu_seconds(&stat),
            resident_bytes: kibibytes.unwrap_or_default() * 1024,
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        }
    }

    fn tell(&self, text: &mut Exposition) {
        let cpu = "Total user and system CPU time spent in seconds.";
        text.single("process_cpu_seconds_total", "counter", cpu, self.cpu_seconds);
        let memory = "Resident memory size in bytes.";
        text.single("process_resident_memory_bytes", "gauge", memory, self.resident_bytes);
        text.single("process_open_fds", "gauge", "Number of open file descriptors.", self.open_files);
    }
}

/// Fields 14 and 15; the name in field 2 may hold anything, so fields are counted from its end.
fn cpu_seconds(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

pub(super) fn probes(shared: &Shared) -> Response<Body> {
    let mut text = Exposition::default();
    let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    text.family("prober_probe_total", "counter", help);
    for (probed, (successes, failures)) in shared.probes.all() {
        for (result, count) in [("successful", successes), ("failed", failures)] {
            let labels = [
                ("container", probed.container.as_str()),
                ("namespace", &probed.namespace),
                ("pod", &probed.pod),
                ("pod_uid", &probed.uid),
                ("probe_type", probed.probe),
                ("result", result),
            ];
            if count > 0 {
                text.row("prober_probe_total", &labels, count);
            }
        }
    }
    typed(StatusCode::OK, CONTENT_TYPE, full(text.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        assert_eq!(cpu_seconds("1 (a) b) S 1 1 1 0 -1 4 0 0 0 0 150 50 0 0 20"), 2.0);
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.open_files > 0, "{process:?}");
    }
}
