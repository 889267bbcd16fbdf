//! PodSandboxStats: what a pod uses as a whole (its cgroup, its network) and each of its running containers.

use super::container_stats::{self, number};
use crate::engine::blocking::blocking;
use crate::engine::cgroups;
use crate::engine::core::{Core, now};
use crate::engine::failures::status;
use crate::engine::registry::Sandbox;
use knarr_cri::Status;
use knarr_cri::v1::{
    LinuxPodSandboxStats, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes, PodSandboxStats,
    PodSandboxStatsRequest, PodSandboxStatsResponse, ProcessUsage,
};
use std::sync::Arc;

/// The pod's link; anything else in its namespace is the pod's own doing.
const DEFAULT_INTERFACE: &str = "eth0";

pub(crate) async fn call(
    core: Arc<Core>,
    request: PodSandboxStatsRequest,
) -> Result<PodSandboxStatsResponse, Status> {
    let sandbox = core.registry.sandbox(&request.pod_sandbox_id)?;
    let stats = blocking(move || Ok(stats(&core, &sandbox))).await.map_err(status)?;
    Ok(PodSandboxStatsResponse { stats: Some(stats) })
}

/// Reads everything about one pod. Blocking.
pub(super) fn stats(core: &Core, sandbox: &Sandbox) -> PodSandboxStats {
    let record = sandbox.record.get();
    let mut containers = core.registry.containers_of(&sandbox.id);
    containers.retain(|container| container.record.with(|record| record.is_running()));
    let some_pid = containers.iter().find_map(|container| container.record.with(|record| record.pid));
    let usage = cgroups::usage(&core.hierarchies, &record.cgroup_parent);
    let timestamp = now();
    PodSandboxStats {
        attributes: Some(PodSandboxAttributes {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }),
        linux: Some(LinuxPodSandboxStats {
            cpu: Some(container_stats::cpu(&usage, timestamp, None)),
            memory: Some(container_stats::memory(&usage, timestamp)),
            network: some_pid.filter(|_| !record.host_network()).map(|pid| network(pid, timestamp)),
            process: Some(ProcessUsage { timestamp, process_count: usage.processes.map(number) }),
            containers: containers.iter().map(|container| container_stats::stats(core, container)).collect(),
            io: None,
        }),
        windows: None,
    }
}

/// The counters of the network namespace that a process is in.
fn network(pid: i32, timestamp: i64) -> NetworkUsage {
    let interfaces = parse(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default());
    let (default, others): (Vec<_>, Vec<_>) =
        interfaces.into_iter().partition(|link| link.name == DEFAULT_INTERFACE);
    NetworkUsage { timestamp, default_interface: default.into_iter().next(), interfaces: others }
}

/// Lines of `name: rx_bytes rx_packets rx_errors ... tx_bytes tx_packets tx_errors ...`.
fn parse(text: &str) -> Vec<NetworkInterfaceUsage> {
    let one = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let fields: Vec<u64> = counters.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let field = |index: usize| fields.get(index).copied().map(number);
        Some(NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: field(0),
            rx_errors: field(2),
            tx_bytes: field(8),
            tx_errors: field(10),
        })
    };
    text.lines().filter_map(one).filter(|link| link.name != "lo" && link.rx_bytes.is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_per_link() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                    \x20 eth0: 100 2 3 0 0 0 0 0 200 5 6 0 0 0 0 0\n";
        let links = parse(text);
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].rx_bytes, Some(number(100)));
        assert_eq!(links[0].tx_errors, Some(number(6)));
    }
}
