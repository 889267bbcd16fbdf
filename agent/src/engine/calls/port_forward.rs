//! PortForward: answers a URL that leads to ports inside a pod.

use crate::engine::Engine;
use knarr_cri::Status;
use knarr_cri::v1::{PodSandboxState, PortForwardRequest, PortForwardResponse};

pub(crate) fn call(engine: &Engine, request: &PortForwardRequest) -> Result<PortForwardResponse, Status> {
    let sandbox = engine.core.registry.sandbox(&request.pod_sandbox_id)?;
    if sandbox.record.with(|record| record.state()) != PodSandboxState::SandboxReady {
        return Err(Status::failed_precondition("sandbox container is not running"));
    }
    if let Some(bad) = request.port.iter().find(|&&port| !(1..=65535).contains(&port)) {
        return Err(Status::invalid_argument(format!("port {bad} is not between 1 and 65535")));
    }
    let request = PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), ..request.clone() };
    Ok(PortForwardResponse { url: engine.streaming()?.port_forward_url(&request)? })
}
