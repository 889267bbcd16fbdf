//! The client of an exec or attach, whatever it speaks.

use super::negotiate::{Protocol, Transport};
use super::outcome::Outcome;
use super::tokens::Stdio;
use super::{spdy_remote, websocket_remote};
use bytes::Bytes;
use serde::Deserialize;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pieces on their way in each direction.
pub(super) const QUEUE: usize = 16;

/// How long a client may take to open its streams, and to close them after the end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Both directions of a client.
#[derive(Debug)]
pub(super) struct Remote {
    /// Ends when the client has ended its input, or has gone.
    pub(super) stdin: mpsc::Receiver<Bytes>,
    /// Terminal sizes: columns, rows.
    pub(super) resize: mpsc::Receiver<(u16, u16)>,
    pub(super) out: mpsc::Sender<Outgoing>,
    /// The connection is lost.
    pub(super) gone: CancellationToken,
}

/// What the client is sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Data(Output, Bytes),
    /// This output has ended.
    End(Output),
    /// The last thing.
    Outcome(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// The other ends of a `Remote`'s channels, for the task that reads from the client.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Dropped at the end of the input.
    pub(super) stdin: Option<mpsc::Sender<Bytes>>,
    pub(super) resize: mpsc::Sender<(u16, u16)>,
    pub(super) gone: CancellationToken,
}

/// Channels between a session and its connection.
pub(super) fn channels() -> (Remote, Incoming, mpsc::Receiver<Outgoing>) {
    let (stdin_sender, stdin) = mpsc::channel(QUEUE);
    let (resize_sender, resize) = mpsc::channel(QUEUE);
    let (out, outgoing) = mpsc::channel(QUEUE);
    let gone = CancellationToken::new();
    let incoming = Incoming { stdin: Some(stdin_sender), resize: resize_sender, gone: gone.clone() };
    (Remote { stdin, resize, out, gone }, incoming, outgoing)
}

/// Completes the client's side of the set-up.
pub(super) async fn connect(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    protocol: Protocol,
    stdio: Stdio,
) -> io::Result<Remote> {
    match protocol.transport {
        Transport::Spdy => spdy_remote::connect(io, protocol.version, stdio).await,
        Transport::WebSocket => websocket_remote::connect(io, protocol, stdio).await,
        Transport::SpdyInWebSocket => Err(io::Error::other("a tunnel carries forwarded ports only")),
    }
}

impl Incoming {
    /// Passes input on, at the pace at which it is taken. Input that nobody wants is thrown away.
    pub(super) async fn input(&mut self, data: Bytes) {
        if let Some(stdin) = &self.stdin
            && !data.is_empty()
            && stdin.send(data).await.is_err()
        {
            self.stdin = None;
        }
    }

    /// Passes a size on. A client may send what it likes here, so nonsense is ignored.
    pub(super) async fn size(&self, json: &[u8]) {
        if let Ok(Size { width, height }) = serde_json::from_slice(json) {
            // Nobody resizes a session that has ended.
            let _ = self.resize.send((width, height)).await;
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}
