//! PodSandboxStatus: one pod as it is now.

use super::container_status;
use crate::engine::core::{Core, now};
use crate::engine::pod_namespaces;
use crate::engine::records::SandboxRecord;
use knarr_cri::Status;
use knarr_cri::v1::{
    ContainerState, LinuxPodSandboxStatus, Namespace, PodIp, PodSandboxNetworkStatus, PodSandboxStatus,
    PodSandboxStatusRequest, PodSandboxStatusResponse,
};
use knarr_runtime::spec::{self, Linux, Spec, VERSION};
use std::collections::HashMap;

pub(crate) fn call(
    core: &Core,
    request: PodSandboxStatusRequest,
) -> Result<PodSandboxStatusResponse, Status> {
    let sandbox = core.registry.sandbox(&request.pod_sandbox_id)?;
    let record = sandbox.record.get();
    let containers = core.registry.containers_of(&sandbox.id);
    Ok(PodSandboxStatusResponse {
        status: Some(status(&record)),
        info: if request.verbose { info(core, &record)? } else { HashMap::new() },
        containers_statuses: containers
            .iter()
            .map(|container| container.record.with(container_status::status))
            .collect(),
        timestamp: now(),
    })
}

/// The record in CRI's words.
pub(crate) fn status(record: &SandboxRecord) -> PodSandboxStatus {
    PodSandboxStatus {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: record.state() as i32,
        created_at: record.created_at,
        network: Some(network(record)),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace { options: Some(record.namespace_options()) }),
        }),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
    }
}

fn network(record: &SandboxRecord) -> PodSandboxNetworkStatus {
    let mut addresses = record.addresses.iter().map(ToString::to_string);
    PodSandboxNetworkStatus {
        ip: addresses.next().unwrap_or_default(),
        additional_ips: addresses.map(|ip| PodIp { ip }).collect(),
    }
}

fn info(core: &Core, record: &SandboxRecord) -> Result<HashMap<String, String>, Status> {
    let containers = core.registry.containers_of(&record.id);
    let running = |record: &crate::engine::records::ContainerRecord| {
        (record.state() == ContainerState::ContainerRunning).then_some(record.pid)
    };
    let info = serde_json::json!({
        "cgroupParent": record.cgroup_parent,
        "namespaces": core.paths.namespaces(&record.id),
        "runtimeHandler": record.runtime_handler,
        // Who looks for it enters the pod's network by it: without a pause process, that of a container does.
        "pid": containers.iter().find_map(|container| container.record.with(running)),
        "runtimeSpec": runtime_spec(core, record),
        "config": record.config,
    });
    Ok(HashMap::from([("info".to_owned(), info.to_string())]))
}

/// What a pause process would have had: tools look there for where the pod's namespaces are.
fn runtime_spec(core: &Core, record: &SandboxRecord) -> Spec {
    let namespaces = pod_namespaces::own(&core.paths, record)
        .into_iter()
        .map(|(kind, path)| spec::Namespace { kind, path: path.to_string_lossy().into_owned() });
    let sysctls = record.config.linux.iter().flat_map(|linux| linux.sysctls.clone());
    Spec {
        oci_version: VERSION.into(),
        hostname: record.config.hostname.clone(),
        annotations: record.config.annotations.clone().into_iter().collect(),
        linux: Some(Linux {
            namespaces: namespaces.collect(),
            sysctl: sysctls.collect(),
            cgroups_path: record.cgroup_parent.clone(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}
