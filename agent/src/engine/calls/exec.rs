//! Exec: checks that the process could be started and answers a URL; the streaming server starts it when the URL is
//! visited.

use crate::engine::Engine;
use crate::engine::exec_process;
use knarr_cri::Status;
use knarr_cri::v1::{ExecRequest, ExecResponse};

pub(crate) fn call(engine: &Engine, request: &ExecRequest) -> Result<ExecResponse, Status> {
    if request.cmd.is_empty() {
        return Err(Status::invalid_argument("cmd is required"));
    }
    if request.tty && request.stderr {
        return Err(Status::invalid_argument("tty and stderr cannot both be true"));
    }
    if !(request.stdin || request.stdout || request.stderr) {
        return Err(Status::invalid_argument("one of stdin, stdout, or stderr must be set"));
    }
    let container = exec_process::running(&engine.core, &request.container_id)?;
    let request = ExecRequest { container_id: container.id.clone(), ..request.clone() };
    Ok(ExecResponse { url: engine.streaming()?.exec_url(&request)? })
}
