//! RemoveContainer: ends the container if it runs, and removes everything it had but its log; its files behind the
//! answer. An unknown one is removed already.

use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::lifecycle::{containers, leftovers};
use knarr_cri::Status;
use knarr_cri::v1::{RemoveContainerRequest, RemoveContainerResponse};
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: RemoveContainerRequest,
) -> Result<RemoveContainerResponse, Status> {
    if let Some(container) = core.registry.find_container(&request.container_id)? {
        let sandbox = core.registry.find_sandbox(&container.sandbox_id)?;
        containers::remove(&core, &container).await.map_err(status)?;
        if let Some(sandbox) = sandbox {
            leftovers::clear_later(&core, sandbox);
        }
    }
    Ok(RemoveContainerResponse {})
}
