//! A byte stream inside a WebSocket: how kubectl 1.31 and later forwards ports (SPDY within).

use super::websocket;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::Message;

/// Bytes on their way in each direction.
const BUFFER: usize = 64 << 10;

/// The stream within. Its end ends the WebSocket, and the other way round.
pub(super) async fn open<T>(io: T) -> DuplexStream
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (inner, outer) = tokio::io::duplex(BUFFER);
    let (mut sink, mut stream) = websocket::accept(io).await.split();
    let (mut read, mut write) = tokio::io::split(outer);
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(bytes) = message
                && write.write_all(&bytes).await.is_err()
            {
                break;
            }
        }
        write.shutdown().await
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            sink.send(Message::Binary(bytes.into())).await?;
        }
        sink.send(Message::Close(Some(websocket::normal_close()))).await
    });
    inner
}
