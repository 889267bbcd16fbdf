//! Frames to a connection: one task owns the sending side, everyone else sends it commands.

use super::frame;
use super::header_block::Deflater;
use bytes::Bytes;
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Commands on their way; a data command is one read.
const QUEUE: usize = 16;

/// Longest data of one frame we send.
const MAX_DATA: usize = 1 << 16;

/// What can be sent.
#[derive(Debug)]
pub(in super::super) enum Command {
    /// Accept a stream.
    Reply(u32),
    /// Part of a stream; the last one where true.
    Data(u32, Bytes, bool),
    /// Refuse a stream (status as in the draft: 1 protocol error, 3 refused).
    Reset(u32, u32),
    /// Answer a ping.
    Ping(u32),
    /// So many bytes of this stream (0: of all) were consumed.
    WindowUpdate(u32, u32),
    /// Say goodbye and close the sending side.
    Close(u32),
}

/// A handle to the sending side.
#[derive(Debug, Clone)]
pub(in super::super) struct Writer {
    commands: mpsc::Sender<Command>,
}

impl Writer {
    /// Starts the task that owns `to`.
    pub(in super::super) fn spawn(to: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(to, queue));
        Self { commands }
    }

    /// Sends a command; an error means that the connection is gone.
    pub(in super::super) async fn send(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The connection's end shows at its reading side, so a write error just ends this task.
async fn run(mut to: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Command>) -> io::Result<()> {
    let mut deflater = Deflater::new()?;
    while let Some(command) = queue.recv().await {
        let is_last = matches!(command, Command::Close(_));
        write(&mut to, &mut deflater, command).await?;
        if queue.is_empty() || is_last {
            to.flush().await?;
        }
        if is_last {
            break;
        }
    }
    to.shutdown().await
}

async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    deflater: &mut Deflater,
    command: Command,
) -> io::Result<()> {
    match command {
        Command::Reply(stream) => to.write_all(&frame::reply(stream, deflater)?).await,
        Command::Reset(stream, status) => to.write_all(&frame::reset(stream, status)).await,
        Command::Ping(id) => to.write_all(&frame::ping(id)).await,
        Command::WindowUpdate(stream, bytes) => to.write_all(&frame::window_update(stream, bytes)).await,
        Command::Close(last_stream) => to.write_all(&frame::go_away(last_stream)).await,
        Command::Data(stream, data, fin) => write_data(to, stream, &data, fin).await,
    }
}

async fn write_data(
    to: &mut (impl AsyncWrite + Unpin),
    stream: u32,
    data: &[u8],
    fin: bool,
) -> io::Result<()> {
    let mut rest = data;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(MAX_DATA));
        let is_last = after.is_empty();
        to.write_all(&frame::data_header(stream, piece.len(), fin && is_last)).await?;
        to.write_all(piece).await?;
        if is_last {
            return Ok(());
        }
        rest = after;
    }
}
