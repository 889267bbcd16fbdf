//! An exec or attach client over WebSocket: each message is one byte for the channel, then data.
//!
//! Channels: 0 stdin, 1 stdout, 2 stderr, 3 the result, 4 resize; in v5 a client may also send 255, whose data is the
//! number of a channel that has ended.

use super::negotiate::Protocol;
use super::outcome::Outcome;
use super::remote::{self, Incoming, Outgoing, Output, PATIENCE, Remote};
use super::tokens::Stdio;
use super::websocket;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESULT: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Starts the client's two directions.
pub(super) async fn connect<T>(io: T, protocol: Protocol, stdio: Stdio) -> io::Result<Remote>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, stream) = websocket::accept(io).await.split();
    // An empty message on the first channel tells the client that we are there.
    let first = match stdio {
        Stdio { stdout: true, .. } => STDOUT,
        Stdio { stderr: true, .. } => STDERR,
        _ => RESULT,
    };
    sink.send(websocket::message(protocol.base64, first, &[])).await.map_err(io::Error::other)?;
    let (remote, incoming, outgoing) = remote::channels();
    let finished = CancellationToken::new();
    tokio::spawn(receive(stream, incoming, protocol, finished.clone()));
    tokio::spawn(send(sink, outgoing, protocol, finished));
    Ok(remote)
}

/// Reads until the client closes; after the end of the session, only for so long as is polite.
async fn receive<T: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<T>>,
    mut incoming: Incoming,
    protocol: Protocol,
    finished: CancellationToken,
) {
    let overdue = async {
        finished.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::pin!(overdue);
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = &mut overdue => return,
        };
        match message {
            Some(Ok(message)) => take(message, &mut incoming, protocol).await,
            Some(Err(error)) => {
                tracing::debug!(%error, "WebSocket client");
                return;
            }
            None => return,
        }
    }
}

/// Pings are answered by the library, as it reads on.
async fn take(message: Message, incoming: &mut Incoming, protocol: Protocol) {
    let Some(bytes) = websocket::payload(message, protocol.base64) else { return };
    match bytes.split_first() {
        Some((&STDIN, _)) => incoming.input(bytes.slice(1..)).await,
        Some((&RESIZE, size)) => incoming.size(size).await,
        Some((&CLOSE, [STDIN])) if protocol.version >= 5 => incoming.stdin = None,
        _ => {}
    }
}

/// Ends with the session or the connection.
async fn send<T: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    protocol: Protocol,
    finished: CancellationToken,
) -> Result<(), Error> {
    let _finished = finished.drop_guard();
    let mut outcome = Outcome::Failure("the session was lost".to_owned());
    while let Some(item) = outgoing.recv().await {
        match item {
            Outgoing::Data(output, data) => {
                sink.send(websocket::message(protocol.base64, channel_of(output), &data)).await?
            }
            // Only clients end single channels; they take the close of the connection as the end of all.
            Outgoing::End(_) => {}
            Outgoing::Outcome(result) => {
                outcome = result;
                break;
            }
        }
    }
    sink.send(websocket::message(protocol.base64, RESULT, &outcome.encode(protocol.version))).await?;
    sink.send(Message::Close(Some(websocket::normal_close()))).await
}

fn channel_of(output: Output) -> u8 {
    match output {
        Output::Stdout => STDOUT,
        Output::Stderr => STDERR,
    }
}
