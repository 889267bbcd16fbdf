//! Port forwarding over a plain WebSocket, as browsers and the Python client do it: the ports are named in the request,
//! and each has two channels, data (even) and error (odd), which begin with the port's number (two bytes, little
//! endian). A channel cannot be closed alone; the connection ends when all ports have.

use super::super::negotiate::Protocol;
use super::super::remote::QUEUE;
use super::super::websocket;
use super::backlog::{Input, backlog};
use super::{Downlink, forward};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// A channel's number is one byte.
const MAX_PORTS: usize = 127;

pub(super) async fn serve<T>(
    io: T,
    protocol: Protocol,
    ports: &[u16],
    netns: Option<PathBuf>,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, mut stream) = websocket::accept(io).await.split();
    let (messages, mut queue) = mpsc::channel::<Message>(QUEUE);
    let sender = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            sink.send(message).await?;
        }
        sink.send(Message::Close(Some(websocket::normal_close()))).await
    });
    let mut inputs = Vec::new();
    for (port, data) in ports.iter().take(MAX_PORTS).zip((0_u8..).step_by(2)) {
        let down =
            |channel| Downlink::Channel { messages: messages.clone(), base64: protocol.base64, channel };
        let (data, error) = (down(data), down(data + 1));
        for channel in [&data, &error] {
            channel.data(Bytes::copy_from_slice(&port.to_le_bytes())).await?;
        }
        let (input, backlog) = backlog();
        inputs.push(input);
        tokio::spawn(forward(netns.clone(), *port, data, error, backlog));
    }
    drop(messages);
    while let Some(Ok(message)) = stream.next().await {
        take(message, protocol.base64, &inputs).await;
    }
    drop(inputs);
    sender.await.map_err(io::Error::other)?.map_err(io::Error::other)
}

/// Nothing is to be sent on error channels; what is, is dropped.
async fn take(message: Message, base64: bool, inputs: &[Input]) {
    let Some(bytes) = websocket::payload(message, base64) else { return };
    if let Some(&channel) = bytes.first()
        && channel % 2 == 0
        && let Some(input) = inputs.get(usize::from(channel / 2))
    {
        input.push(bytes.slice(1..)).await;
    }
}
