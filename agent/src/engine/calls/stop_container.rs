//! StopContainer: asks the process to end, and ends it (with its whole cgroup) when the grace is over. Always
//! escalates and always answers; a container that does not run, or that nobody knows, is stopped already.

use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::lifecycle::containers;
use knarr_cri::Status;
use knarr_cri::v1::{StopContainerRequest, StopContainerResponse};
use std::sync::Arc;
use std::time::Duration;

/// No locks are held here: a second call with a shorter grace must be able to overtake the first.
pub(crate) async fn call(
    core: Arc<Core>,
    request: StopContainerRequest,
) -> Result<StopContainerResponse, Status> {
    let Some(container) = core.registry.find_container(&request.container_id)? else {
        return Ok(StopContainerResponse {});
    };
    let (running, signal) = container.record.with(|record| (record.is_running(), record.stop_signal.clone()));
    if !running {
        return Ok(StopContainerResponse {});
    }
    let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
    if !grace.is_zero() {
        let asked = async { core.runtime_of(&container.sandbox_id)?.kill(&container.id, &signal).await };
        match asked.await {
            Ok(()) => drop(tokio::time::timeout(grace, container.ended()).await),
            // A signal that cannot be sent must not keep the container alive.
            Err(error) => tracing::warn!("container {}: sending {signal}: {error:#}", container.id),
        }
    }
    containers::kill(&core, &container).await.map_err(status)?;
    Ok(StopContainerResponse {})
}
