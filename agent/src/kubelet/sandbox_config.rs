//! A pod as the runtime's `PodSandboxConfig`. Every later call for a container repeats it, so it is made from the
//! pod alone and is the same each time.

use crate::kubelet::paths::Paths;
use crate::kubelet::resources::{self, CPU_PERIOD_US};
use crate::kubelet::{hosts_file, labels, pod, pod_cgroup, security};
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use knarr_cri::v1::{
    DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
    PortMapping, Protocol,
};
use std::collections::HashMap;

/// Builds the configuration of the pod's sandbox number `attempt`; `first_id` begins the ids of a pod with a user
/// namespace of its own.
pub fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    paths: &Paths,
    dns: DnsConfig,
    cgroup_root: &str,
    first_id: Option<u32>,
) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod::name(pod).to_string(),
            uid: pod::uid(pod).to_string(),
            namespace: pod::namespace(pod).to_string(),
            attempt,
        }),
        hostname: if pod::host_network(pod) { String::new() } else { hosts_file::hostname(pod) },
        log_directory: paths.logs(pod).to_string_lossy().into_owned(),
        dns_config: Some(dns),
        port_mappings: port_mappings(pod),
        labels: sandbox_labels(pod),
        annotations: pod.metadata.annotations.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: pod_cgroup::path(cgroup_root, pod),
            security_context: Some(security::sandbox_context(pod, first_id)),
            sysctls: sysctls(pod),
            overhead: Some(pod_overhead(pod)),
            resources: Some(pod_resources(pod)),
        }),
        ..Default::default()
    }
}

/// The pod's own labels, then the three by which it is found again.
fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut all: HashMap<_, _> =
        pod.metadata.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    all.insert(labels::POD_NAME.into(), pod::name(pod).into());
    all.insert(labels::POD_NAMESPACE.into(), pod::namespace(pod).into());
    all.insert(labels::POD_UID.into(), pod::uid(pod).into());
    all
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let list = pod::spec(pod).security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    list.into_iter().flatten().map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone())).collect()
}

/// A name that is written as a path, `net/ipv4/conf/eth0.1/x`, in the form that runtimes know.
fn dotted(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    let swapped = name.chars().map(|letter| match letter {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    swapped.collect()
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if pod::host_network(pod) {
        return Vec::new();
    }
    let ports = pod::containers(pod).flat_map(|(_, container)| container.ports.iter().flatten());
    ports.filter(|port| port.host_port.is_some_and(|port| port > 0)).map(port_mapping).collect()
}

fn port_mapping(port: &ContainerPort) -> PortMapping {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    PortMapping {
        protocol: protocol as i32,
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    }
}

/// What the pod's containers may use together, for runtimes that size a virtual machine by it.
pub fn pod_resources(pod: &Pod) -> LinuxContainerResources {
    let request = |resource| resources::pod_request(pod, resource) - resources::overhead(pod, resource);
    let limit =
        |resource| resources::pod_limit(pod, resource).map(|all| all - resources::overhead(pod, resource));
    linux(request("cpu"), limit("cpu"), limit("memory"))
}

/// What the pod's runtime class needs beside them.
pub fn pod_overhead(pod: &Pod) -> LinuxContainerResources {
    if pod::spec(pod).overhead.is_none() {
        return LinuxContainerResources::default();
    }
    let some = |resource| Some(resources::overhead(pod, resource)).filter(|milli| *milli > 0);
    linux(resources::overhead(pod, "cpu"), some("cpu"), some("memory"))
}

fn linux(cpu: i64, cpu_limit: Option<i64>, memory_limit: Option<i64>) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_shares: resources::cpu_shares(cpu),
        cpu_quota: cpu_limit.map_or(0, resources::cpu_quota),
        memory_limit_in_bytes: memory_limit.map_or(0, |milli| milli / 1000),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_told_of_the_containers_and_of_itself() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "overhead": {"cpu": "250m", "memory": "1Ki"},
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "2Ki"}}}]}}))
        .unwrap();
        let told =
            |told: LinuxContainerResources| (told.cpu_shares, told.cpu_quota, told.memory_limit_in_bytes);
        assert_eq!(told(pod_resources(&pod)), (512, 50_000, 2048));
        assert_eq!(told(pod_overhead(&pod)), (256, 25_000, 1024));
        let plain: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": []}})).unwrap();
        assert_eq!(pod_overhead(&plain), LinuxContainerResources::default());
    }

    #[test]
    fn names_of_sysctls_are_dotted() {
        for (name, expected) in [
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"),
            ("net.ipv4.conf.eth0/1.x", "net.ipv4.conf.eth0/1.x"),
            ("plain", "plain"),
        ] {
            assert_eq!(dotted(name), expected);
        }
    }
}
