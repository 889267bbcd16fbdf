//! An exec or attach client over SPDY: one SPDY stream per standard stream, told apart by the header `streamtype`.
//!
//! The client opens error, stdin, stdout, stderr and resize (those it asked for) and waits for our replies; the
//! process starts when all are there. The result goes over the error stream.

use super::outcome::Outcome;
use super::remote::{self, Incoming, Outgoing, Output, PATIENCE, Remote};
use super::spdy::{Command, Frame, Reader, Writer};
use super::tokens::Stdio;
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A line of a resize stream is some 30 bytes.
const MAX_SIZE_LINE: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

/// Stream numbers by what they carry.
type Streams = HashMap<Kind, u32>;

/// Waits for the client's streams.
pub(super) async fn connect<T>(io: T, version: u8, stdio: Stdio) -> io::Result<Remote>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, write) = tokio::io::split(io);
    let writer = Writer::spawn(write);
    let (remote, incoming, outgoing) = remote::channels();
    let (ready, all_open) = oneshot::channel();
    let finished = CancellationToken::new();
    let session = Session {
        reader: Reader::new(read),
        writer: writer.clone(),
        incoming,
        expected: expected(version, stdio),
        streams: Streams::new(),
        size_line: Vec::new(),
        ready: Some(ready),
        windows: false,
    };
    tokio::spawn(session.run(finished.clone()));
    let streams = tokio::time::timeout(PATIENCE, all_open)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client did not open its streams"))?
        .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    tokio::spawn(send(outgoing, writer, streams, version, finished));
    Ok(remote)
}

fn expected(version: u8, stdio: Stdio) -> Vec<Kind> {
    let mut kinds = vec![Kind::Error];
    kinds.extend(stdio.stdin.then_some(Kind::Stdin));
    kinds.extend(stdio.stdout.then_some(Kind::Stdout));
    kinds.extend(stdio.stderr.then_some(Kind::Stderr));
    kinds.extend((stdio.tty && version >= 3).then_some(Kind::Resize));
    kinds
}

/// The reading side.
struct Session<R> {
    reader: Reader<R>,
    writer: Writer,
    incoming: Incoming,
    expected: Vec<Kind>,
    streams: Streams,
    size_line: Vec<u8>,
    ready: Option<oneshot::Sender<Streams>>,
    windows: bool,
}

impl<T: AsyncRead + Unpin> Session<ReadHalf<T>> {
    /// Reads until the client closes; after the end of the session, only for so long as is polite. (Closing a socket
    /// with unread input would destroy output that the client has not read yet.)
    async fn run(mut self, finished: CancellationToken) {
        let overdue = async {
            finished.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::pin!(overdue);
        loop {
            let frame = tokio::select! {
                frame = self.reader.next() => frame,
                () = &mut overdue => return,
            };
            match frame {
                Ok(Some(frame)) => {
                    if self.take(frame).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "SPDY client");
                    return;
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Open { stream, headers, fin } => {
                let kind = kind_of(headers.get("streamtype").unwrap_or_default());
                self.open(stream, kind).await?;
                if fin && kind == Some(Kind::Stdin) {
                    self.incoming.stdin = None;
                }
            }
            Frame::Data { stream, data, fin } => {
                if self.windows && !data.is_empty() {
                    let length = data.len() as u32;
                    self.writer.send(Command::WindowUpdate(stream, length)).await?;
                    self.writer.send(Command::WindowUpdate(0, length)).await?;
                }
                if self.streams.get(&Kind::Stdin) == Some(&stream) {
                    self.incoming.input(data).await;
                    if fin {
                        self.incoming.stdin = None;
                    }
                } else if self.streams.get(&Kind::Resize) == Some(&stream) {
                    self.take_sizes(&data).await;
                }
            }
            Frame::Reset { stream } => {
                if self.streams.get(&Kind::Stdin) == Some(&stream) {
                    self.incoming.stdin = None;
                }
            }
            Frame::Ping { id } => self.writer.send(Command::Ping(id)).await?,
            Frame::Windows => self.windows = true,
            Frame::GoAway | Frame::Other => {}
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, kind: Option<Kind>) -> io::Result<()> {
        const REFUSED_STREAM: u32 = 3;
        let Some(kind) = kind.filter(|kind| self.expected.contains(kind) && !self.streams.contains_key(kind))
        else {
            return self.writer.send(Command::Reset(stream, REFUSED_STREAM)).await;
        };
        self.writer.send(Command::Reply(stream)).await?;
        self.streams.insert(kind, stream);
        if self.streams.len() == self.expected.len()
            && let Some(ready) = self.ready.take()
        {
            // Nobody waits any more if the client took too long.
            let _ = ready.send(self.streams.clone());
        }
        Ok(())
    }

    /// Sizes come as one JSON object per line, cut anywhere.
    async fn take_sizes(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.size_line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.size_line.len() > MAX_SIZE_LINE {
                self.incoming.size(&std::mem::take(&mut self.size_line)).await;
            }
        }
    }
}

fn kind_of(name: &str) -> Option<Kind> {
    Some(match name {
        "error" => Kind::Error,
        "stdin" => Kind::Stdin,
        "stdout" => Kind::Stdout,
        "stderr" => Kind::Stderr,
        "resize" => Kind::Resize,
        _ => return None,
    })
}

/// The writing side; ends with the session or the connection.
async fn send(
    mut outgoing: mpsc::Receiver<Outgoing>,
    writer: Writer,
    streams: Streams,
    version: u8,
    finished: CancellationToken,
) -> io::Result<()> {
    let _finished = finished.drop_guard();
    let stream = |output| {
        streams.get(&match output {
            Output::Stdout => Kind::Stdout,
            Output::Stderr => Kind::Stderr,
        })
    };
    while let Some(item) = outgoing.recv().await {
        match item {
            Outgoing::Data(output, data) => {
                if let Some(stream) = stream(output) {
                    writer.send(Command::Data(*stream, data, false)).await?;
                }
            }
            Outgoing::End(output) => {
                if let Some(stream) = stream(output) {
                    writer.send(Command::Data(*stream, bytes::Bytes::new(), true)).await?;
                }
            }
            Outgoing::Outcome(outcome) => return close(&writer, &streams, &outcome, version).await,
        }
    }
    close(&writer, &streams, &Outcome::Failure("the session was lost".to_owned()), version).await
}

async fn close(writer: &Writer, streams: &Streams, outcome: &Outcome, version: u8) -> io::Result<()> {
    if let Some(stream) = streams.get(&Kind::Error) {
        writer.send(Command::Data(*stream, outcome.encode(version).into(), true)).await?;
    }
    writer.send(Command::Close(streams.values().copied().max().unwrap_or_default())).await
}
