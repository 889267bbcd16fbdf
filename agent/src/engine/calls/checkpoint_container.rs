//! CheckpointContainer: writes a running container down as an archive; the container goes on.

use crate::engine::checkpoint::take::take;
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::registry::Container;
use knarr_cri::Status;
use knarr_cri::v1::{CheckpointContainerRequest, CheckpointContainerResponse, ContainerState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the caller leaves it to us: memory is written at the speed of a disk.
pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

pub(crate) async fn call(
    core: Arc<Core>,
    request: CheckpointContainerRequest,
) -> Result<CheckpointContainerResponse, Status> {
    let container = core.registry.container(&request.container_id)?;
    let location = location(&request.location)?;
    let deadline = match u64::try_from(request.timeout) {
        Ok(0) => DEFAULT_DEADLINE,
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => return Err(Status::invalid_argument("timeout: must not be negative")),
    };
    // Not the pod's: it may be stopped meanwhile, and its processes be killed; only removal waits.
    let _gate = container.gate.lock().await;
    check_running(&container)?;
    take(&core, &[(container.clone(), location)], deadline).await.map_err(status)?;
    Ok(CheckpointContainerResponse {})
}

/// Only what runs can be written down.
pub(super) fn check_running(container: &Container) -> Result<(), Status> {
    let state = container.record.with(|record| record.state());
    if state == ContainerState::ContainerRunning {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "container {:?} is in {} state. only {} containers can be checkpointed",
        container.id,
        state.as_str_name(),
        ContainerState::ContainerRunning.as_str_name()
    )))
}

fn location(text: &str) -> Result<PathBuf, Status> {
    let path = PathBuf::from(text);
    match path.is_absolute() && path.file_name().is_some() {
        true => Ok(path),
        false => {
            Err(Status::invalid_argument(format!("location: {text:?} is not the absolute path of a file")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_file() {
        assert_eq!(location("/a/b.tar").unwrap(), PathBuf::from("/a/b.tar"));
        for bad in ["", "b.tar", "/", "/a/.."] {
            assert!(location(bad).is_err(), "{bad:?}");
        }
    }
}
