//! An exec: bytes between the client and the process, then how it ended.

use super::outcome::Outcome;
use super::remote::{Outgoing, Output, Remote};
use super::tokens::Stdio;
use crate::engine::monitors::{ExecSession, Exit};
use crate::engine::stream_target::StreamTarget;
use bytes::{Bytes, BytesMut};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Most bytes passed on at a time.
const PIECE: usize = 32 << 10;

/// After the process has ended, its output is read to the end; something that it left running may hold the pipes
/// open, so only for as long as more comes within this time.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Runs a command for a client. A client that goes away takes the process with it.
pub(super) async fn run(
    target: &dyn StreamTarget,
    container_id: &str,
    cmd: Vec<String>,
    stdio: Stdio,
    mut remote: Remote,
) -> io::Result<()> {
    let (out, gone) = (remote.out.clone(), remote.gone.clone());
    let outcome = match target.exec_session(container_id, cmd, stdio.tty, stdio.stdin).await {
        Ok(session) => tokio::select! {
            outcome = talk(target, session, stdio, &mut remote) => outcome?,
            () = gone.cancelled() => return Ok(()),
        },
        Err(status) => {
            Outcome::Failure(format!("error executing command in container: {}", status.message()))
        }
    };
    out.send(Outgoing::Outcome(outcome)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn talk(
    target: &dyn StreamTarget,
    mut session: ExecSession,
    stdio: Stdio,
    remote: &mut Remote,
) -> io::Result<Outcome> {
    let Remote { stdin, resize, out, .. } = remote;
    let input = session.stdin.take();
    let stdout = session.stdout.try_clone()?;
    let stderr = session.stderr.take();
    let exited = CancellationToken::new();
    let input = feed(input, stdin);
    let output = async {
        tokio::join!(
            pass_on(Some(stdout), stdio.stdout.then_some(out.clone()), Output::Stdout, &exited),
            pass_on(stderr, stdio.stderr.then_some(out.clone()), Output::Stderr, &exited),
        )
    };
    tokio::pin!(input, output);
    let (mut fed, mut drained) = (false, false);
    let exit = loop {
        tokio::select! {
            exit = &mut session.exit => break exit,
            () = &mut input, if !fed => fed = true,
            _ = &mut output, if !drained => drained = true,
            Some((columns, rows)) = resize.recv() => {
                if let Err(error) = target.resize_exec(&session, columns, rows) {
                    tracing::debug!(%error, "resize");
                }
            }
        }
    };
    exited.cancel();
    if !drained {
        output.await;
    }
    Ok(outcome_of(exit))
}

fn outcome_of(exit: Result<Result<Exit, String>, tokio::sync::oneshot::error::RecvError>) -> Outcome {
    match exit {
        Ok(Ok(exit)) => Outcome::of_exit(exit.code),
        Ok(Err(message)) => Outcome::Failure(format!("error executing command in container: {message}")),
        Err(_) => Outcome::Failure("error executing command in container: its monitor is gone".to_owned()),
    }
}

/// Writes the client's input to the process; a process that has closed its input wants no more.
async fn feed(to: Option<OwnedFd>, stdin: &mut mpsc::Receiver<Bytes>) {
    let Some(Ok(mut to)) = to.map(pipe::Sender::from_owned_fd_unchecked) else { return };
    while let Some(data) = stdin.recv().await {
        if to.write_all(&data).await.is_err() {
            return;
        }
    }
}

async fn quiet_after(exited: &CancellationToken) {
    exited.cancelled().await;
    tokio::time::sleep(OUTPUT_GRACE).await;
}

/// Reads one output to its end; without a client for it, throws it away.
async fn pass_on(
    from: Option<OwnedFd>,
    out: Option<mpsc::Sender<Outgoing>>,
    output: Output,
    exited: &CancellationToken,
) {
    let Some(Ok(mut from)) = from.map(pipe::Receiver::from_owned_fd_unchecked) else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            () = quiet_after(exited) => break,
        };
        // A pty says EIO when its other end has closed.
        if !read.is_ok_and(|count| count > 0) {
            break;
        }
        let data = buffer.split().freeze();
        if let Some(out) = &out
            && out.send(Outgoing::Data(output, data)).await.is_err()
        {
            return;
        }
    }
    if let Some(out) = out {
        // A client that has gone shows elsewhere.
        let _ = out.send(Outgoing::End(output)).await;
    }
}
