//! ExecSync: runs a command in a container and answers what it wrote and how it ended (exec probes, hooks).
//!
//! Output beyond 16 MiB per stream is read and dropped, so that the command does not stall. Past the timeout the whole
//! process tree is dead and the answer is DeadlineExceeded.

use crate::engine::core::Core;
use crate::engine::exec_process;
use crate::engine::failures::{DeadlineExceeded, status};
use crate::engine::monitors::Exit;
use anyhow::anyhow;
use knarr_cri::Status;
use knarr_cri::v1::{ExecSyncRequest, ExecSyncResponse};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

/// Most bytes kept of each stream.
const LIMIT: usize = 16 << 20;
/// How long output may still come after the process has ended: what it wrote is in the pipe already, only children
/// that it left behind could hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(1);
/// The monitor itself kills at the timeout; this is for a monitor that does not.
const SLACK: Duration = Duration::from_secs(10);

pub(crate) async fn call(core: &Core, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
    if request.cmd.is_empty() {
        return Err(Status::invalid_argument("cmd is required"));
    }
    let timeout = u64::try_from(request.timeout).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs);
    let run = run(core, &request, timeout);
    match timeout {
        None => run.await,
        Some(timeout) => tokio::time::timeout(timeout + SLACK, run)
            .await
            .map_err(|_| too_late(timeout))
            .and_then(|result| result),
    }
    .map_err(status)
}

async fn run(
    core: &Core,
    request: &ExecSyncRequest,
    timeout: Option<Duration>,
) -> anyhow::Result<ExecSyncResponse> {
    let session =
        exec_process::start(core, &request.container_id, request.cmd.clone(), false, false, timeout).await?;
    let enough = CancellationToken::new();
    // Dropped with this call: readers end, and with the session the process tree.
    let _end_readers = enough.clone().drop_guard();
    let stdout = tokio::spawn(collect(Some(session.stdout), enough.clone()));
    let stderr = tokio::spawn(collect(session.stderr, enough.clone()));
    let exit: Exit = session
        .exit
        .await
        .map_err(|_| anyhow!("the monitor went away"))?
        .map_err(|error| anyhow!("{error}"))?;
    let both = async { tokio::join!(stdout, stderr) };
    tokio::pin!(both);
    let (stdout, stderr) = tokio::select! {
        drained = &mut both => drained,
        () = tokio::time::sleep(DRAIN) => {
            enough.cancel();
            both.await
        }
    };
    if exit.timed_out {
        return Err(too_late(timeout.unwrap_or_default()));
    }
    Ok(ExecSyncResponse { stdout: stdout??, stderr: stderr??, exit_code: exit.code })
}

fn too_late(timeout: Duration) -> anyhow::Error {
    DeadlineExceeded(format!("failed to exec in container: timeout {timeout:?} exceeded")).into()
}

/// Reads until the end, or until it is enough.
async fn collect(pipe: Option<OwnedFd>, enough: CancellationToken) -> std::io::Result<Vec<u8>> {
    let Some(pipe) = pipe else { return Ok(Vec::new()) };
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let length = tokio::select! {
            length = pipe.read(&mut chunk) => length?,
            () = enough.cancelled() => 0,
        };
        if length == 0 {
            return Ok(kept);
        }
        let room = LIMIT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
    }
}
