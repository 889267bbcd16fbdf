//! Container events for those who listen (`crictl events`, a kubelet with evented PLEG). A listener that lags loses
//! the oldest events, as the contract allows: it also lists now and then.

use super::calls::{container_status, pod_sandbox_status};
use super::core::{Core, now};
use knarr_cri::v1::{ContainerEventResponse, ContainerEventType};
use tokio::sync::broadcast;

/// How many events a slow listener may be behind.
const BACKLOG: usize = 1024;

/// The source of all events.
#[derive(Debug)]
pub(crate) struct Events(broadcast::Sender<ContainerEventResponse>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.0.subscribe()
    }
}

/// Tells what happened to `id`, which is a container of the sandbox or the sandbox itself, with the state of the pod
/// around it.
pub(crate) fn tell(core: &Core, id: &str, sandbox_id: &str, kind: ContainerEventType) {
    if core.events.0.receiver_count() == 0 {
        return;
    }
    let sandbox = core.registry.find_sandbox(sandbox_id).ok().flatten();
    let containers = core.registry.containers_of(sandbox_id);
    let event = ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind as i32,
        created_at: now(),
        pod_sandbox_status: sandbox.map(|sandbox| sandbox.record.with(pod_sandbox_status::status)),
        containers_statuses: containers
            .iter()
            .map(|container| container.record.with(container_status::status))
            .collect(),
    };
    // No listener is no error.
    drop(core.events.0.send(event));
}
