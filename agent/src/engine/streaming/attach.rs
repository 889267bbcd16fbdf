//! An attach: the container's own stdio, shared with its log and with other clients.

use super::outcome::Outcome;
use super::remote::{Outgoing, Output, Remote};
use super::tokens::Stdio;
use crate::engine::monitors::{AttachOutput, AttachSession};
use crate::engine::stream_target::StreamTarget;
use bytes::Bytes;
use std::io;
use tokio::sync::mpsc;

/// Joins a container for a client, until either ends.
pub(super) async fn run(
    target: &dyn StreamTarget,
    container_id: &str,
    stdio: Stdio,
    mut remote: Remote,
) -> io::Result<()> {
    let (out, gone) = (remote.out.clone(), remote.gone.clone());
    let outcome = match target.attach_session(container_id).await {
        Ok(session) => tokio::select! {
            () = talk(session, stdio, &mut remote) => Outcome::Success,
            () = gone.cancelled() => return Ok(()),
        },
        Err(status) => Outcome::Failure(format!("error attaching to container: {}", status.message())),
    };
    out.send(Outgoing::Outcome(outcome)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn talk(session: AttachSession, stdio: Stdio, remote: &mut Remote) {
    let AttachSession { stdin, output, resize } = session;
    let Remote { stdin: input, resize: sizes, out, .. } = remote;
    let mut output = output;
    let sizes = async {
        while let Some(size) = sizes.recv().await {
            if resize.send(size).await.is_err() {
                return;
            }
        }
    };
    let input = async {
        // Of a client without input nothing must reach the container, not even the end of it.
        if stdio.stdin { feed(stdin, input).await } else { hold(stdin).await }
    };
    tokio::pin!(sizes, input);
    let (mut sized, mut fed) = (false, false);
    loop {
        tokio::select! {
            piece = output.recv() => match piece {
                Some(piece) => pass_on(piece, stdio, out).await,
                None => return,
            },
            () = &mut sizes, if !sized => sized = true,
            () = &mut input, if !fed => fed = true,
        }
    }
}

/// Dropping the sender at the end tells the container, where it listens to one client only.
async fn feed(to: mpsc::Sender<Vec<u8>>, from: &mut mpsc::Receiver<Bytes>) {
    while let Some(data) = from.recv().await {
        if to.send(data.to_vec()).await.is_err() {
            return;
        }
    }
}

async fn hold(sender: mpsc::Sender<Vec<u8>>) {
    sender.closed().await;
}

async fn pass_on(piece: AttachOutput, stdio: Stdio, out: &mpsc::Sender<Outgoing>) {
    let (output, data) = match piece {
        AttachOutput::Stdout(data) if stdio.stdout => (Output::Stdout, data),
        AttachOutput::Stderr(data) if stdio.stderr => (Output::Stderr, data),
        _ => return,
    };
    // A client that has gone shows elsewhere.
    let _ = out.send(Outgoing::Data(output, data.into())).await;
}
