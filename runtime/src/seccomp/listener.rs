//! Handing the notify descriptor of a filter to its supervisor, with the container's state, over a unix socket.

use super::Listener;
use crate::error::{Context, Result};
use crate::socket;
use crate::state::State;
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};

/// The specification's container process state.
#[derive(Serialize)]
struct ProcessState<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    metadata: &'a str,
    state: &'a State,
}

/// Sends it.
pub(crate) fn send(listener: &Listener, notify: &OwnedFd, state: &State) -> Result<()> {
    let message = ProcessState {
        oci_version: crate::spec::VERSION,
        fds: ["seccompFd"],
        pid: state.pid,
        metadata: &listener.metadata,
        state,
    };
    let text =
        serde_json::to_vec(&message).map_err(|error| crate::error::Error::invalid(error.to_string()))?;
    let socket = socket::connect(&listener.path)
        .context(|| "failed to connect with seccomp agent specified in the seccomp profile")?;
    socket::send_fd(socket.as_fd(), &text, notify.as_fd()).context(|| "sending the seccomp notify descriptor")
}
