//! Attach: answers a URL at which a client meets the container's own stdio.

use crate::engine::Engine;
use crate::engine::exec_process;
use knarr_cri::Status;
use knarr_cri::v1::{AttachRequest, AttachResponse};

pub(crate) fn call(engine: &Engine, request: &AttachRequest) -> Result<AttachResponse, Status> {
    if request.tty && request.stderr {
        return Err(Status::invalid_argument("tty and stderr cannot both be true"));
    }
    if !(request.stdin || request.stdout || request.stderr) {
        return Err(Status::invalid_argument("one of stdin, stdout, or stderr must be set"));
    }
    let container = exec_process::running(&engine.core, &request.container_id)?;
    // Whether there is a terminal is the container's to say, and all that is said comes out of it as one.
    let tty = container.record.with(|record| record.config.tty);
    let (stdout, stderr) =
        if tty { (request.stdout || request.stderr, false) } else { (request.stdout, request.stderr) };
    let id = container.id.clone();
    let request = AttachRequest { container_id: id, tty, stdout, stderr, ..request.clone() };
    Ok(AttachResponse { url: engine.streaming()?.attach_url(&request)? })
}
