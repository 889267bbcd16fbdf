//! PodSandboxStatus: one pod as it is now.

use super::container_status;
use crate::engine::core::{Core, now};
use crate::engine::records::SandboxRecord;
use knarr_cri::Status;
use knarr_cri::v1::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandboxNetworkStatus, PodSandboxStatus,
    PodSandboxStatusRequest, PodSandboxStatusResponse,
};
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
    let info = serde_json::json!({
        "cgroupParent": record.cgroup_parent,
        "namespaces": core.paths.namespaces(&record.id),
        "runtimeHandler": record.runtime_handler,
        "config": record.config,
    });
    Ok(HashMap::from([("info".to_owned(), info.to_string())]))
}
