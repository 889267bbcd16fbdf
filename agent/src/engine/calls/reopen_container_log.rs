//! ReopenContainerLog: the log was renamed by a rotation; further lines go to a new file. Only a running container has
//! somebody who writes.

use crate::engine::core::Core;
use crate::engine::failures::status;
use knarr_cri::Status;
use knarr_cri::v1::{ReopenContainerLogRequest, ReopenContainerLogResponse};

pub(crate) async fn call(
    core: &Core,
    request: ReopenContainerLogRequest,
) -> Result<ReopenContainerLogResponse, Status> {
    let container = core.registry.container(&request.container_id)?;
    if !container.record.with(|record| record.is_running()) {
        return Err(Status::failed_precondition("container is not running"));
    }
    core.monitors.reopen_log(&container.sandbox_id, &container.id).await.map_err(status)?;
    Ok(ReopenContainerLogResponse {})
}
