//! PodSandboxStats: what a pod uses as a whole (its cgroup, its network) and each of its running containers.

use super::container_stats::{self, number};
use crate::engine::blocking::blocking;
use crate::engine::cgroups;
use crate::engine::core::{Core, now};
use crate::engine::failures::status;
use crate::engine::net_dev;
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
            io: container_stats::io(&usage, timestamp),
        }),
        windows: None,
    }
}

/// The counters of the network namespace that a process is in.
fn network(pid: i32, timestamp: i64) -> NetworkUsage {
    let (default, others): (Vec<_>, Vec<_>) =
        net_dev::of_process(pid).iter().map(interface).partition(|link| link.name == DEFAULT_INTERFACE);
    NetworkUsage { timestamp, default_interface: default.into_iter().next(), interfaces: others }
}

fn interface(link: &net_dev::Link) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: link.name.clone(),
        rx_bytes: Some(number(link.received.bytes)),
        rx_errors: Some(number(link.received.errors)),
        tx_bytes: Some(number(link.sent.bytes)),
        tx_errors: Some(number(link.sent.errors)),
    }
}
