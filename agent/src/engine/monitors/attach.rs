//! An attach: frames both ways, each direction in a task of its own so that neither holds up the other.

use super::channel::Channel;
use super::{AttachOutput, AttachSession};
use anyhow::bail;
use knarr_monitor::attach_frame::{self, Decoder, Kind, MAX_DATA};
use knarr_monitor::protocol::{Answer, Container, Request};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// Pieces on their way in each direction; a piece is one read.
const QUEUE: usize = 16;

/// Joins a container's stdio.
pub(super) async fn start(mut channel: Channel, container_id: &str) -> anyhow::Result<AttachSession> {
    channel.send(Request::Attach(Container { id: container_id.to_owned() })).await?;
    match channel.answer().await? {
        Answer::Done {} => {}
        other => bail!("the monitor answered {other:?} to an attach"),
    }
    let (stream, ahead) = channel.into_stream();
    let (read, write) = stream.into_split();
    let (stdin, stdin_queue) = mpsc::channel(QUEUE);
    let (resize, resize_queue) = mpsc::channel(QUEUE);
    let (output_queue, output) = mpsc::channel(QUEUE);
    let (ended, input) = oneshot::channel();
    tokio::spawn(pump_input(write, stdin_queue, resize_queue, output_queue.downgrade(), ended));
    tokio::spawn(pump_output(read, ahead, output_queue, input));
    Ok(AttachSession { stdin, output, resize })
}

/// Ends with the container's output; the receiver then sees the end of its channel. Whoever has ended its input and listens
/// no more has left.
async fn pump_output(
    mut read: OwnedReadHalf,
    ahead: Vec<u8>,
    queue: mpsc::Sender<AttachOutput>,
    mut input: oneshot::Receiver<OwnedWriteHalf>,
) {
    let (mut kept, mut sends) = (None, true);
    let mut decoder = Decoder::default();
    decoder.push(&ahead);
    let mut buffer = vec![0; 16 << 10];
    loop {
        while let Ok(Some((kind, data))) = decoder.next_frame() {
            let piece = match kind {
                Kind::Stdout => AttachOutput::Stdout(data),
                Kind::Stderr => AttachOutput::Stderr(data),
                Kind::Stdin | Kind::Resize => continue,
            };
            // A client that only sends input has dropped its receiver: its output is read and thrown away.
            let _ = queue.send(piece).await;
        }
        tokio::select! {
            arrived = read.read(&mut buffer) => match arrived {
                Ok(0) | Err(_) => return,
                Ok(count) => decoder.push(buffer.get(..count).unwrap_or_default()),
            },
            ended = &mut input, if sends => {
                sends = false;
                kept = ended.ok();
            }
            () = queue.closed(), if kept.is_some() => return,
        }
    }
}

/// Ends when the client has dropped both senders, or the container has ended. A client that ends its input while it
/// still listens says so to the container, and its side of the stream stays open: closing it would look like leaving. One
/// that drops everything has just left.
async fn pump_input(
    mut write: OwnedWriteHalf,
    mut stdin: mpsc::Receiver<Vec<u8>>,
    mut resize: mpsc::Receiver<(u16, u16)>,
    output: mpsc::WeakSender<AttachOutput>,
    ended: oneshot::Sender<OwnedWriteHalf>,
) {
    let (mut stdin_open, mut resize_open) = (true, true);
    while stdin_open || resize_open {
        let sent = tokio::select! {
            data = stdin.recv(), if stdin_open => {
                stdin_open = data.is_some();
                if !stdin_open && output.upgrade().is_none_or(|output| output.is_closed()) {
                    return;
                }
                send_input(&mut write, data.as_deref()).await
            }
            size = resize.recv(), if resize_open => match size {
                Some((columns, rows)) => {
                    send(&mut write, Kind::Resize, &attach_frame::encode_size(columns, rows)).await
                }
                None => { resize_open = false; Ok(()) }
            },
        };
        if sent.is_err() {
            return;
        }
    }
    // Where the output has ended too, nobody keeps it.
    let _over = ended.send(write);
}

/// An empty frame says that no more will come.
async fn send_input(write: &mut OwnedWriteHalf, data: Option<&[u8]>) -> io::Result<()> {
    let Some(data) = data else { return send(write, Kind::Stdin, &[]).await };
    for piece in data.chunks(MAX_DATA) {
        send(write, Kind::Stdin, piece).await?;
    }
    Ok(())
}

async fn send(write: &mut OwnedWriteHalf, kind: Kind, data: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(data.len() + 8);
    attach_frame::encode(kind, data, &mut frame);
    write.write_all(&frame).await
}
