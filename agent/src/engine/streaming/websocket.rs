//! WebSocket messages (RFC 6455) over an upgraded connection.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Longest message taken, in bytes. Clients send what they read at a time, at most some ten KiB.
const MAX_MESSAGE: usize = 4 << 20;

/// The server's side of a connection whose handshake is done.
pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// All is well; clients take any other end, also one without a code, for a failure.
pub(super) fn normal_close() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }
}

/// Data of one channel: a byte for the channel, then the data. In the base64 kinds it is text: the channel as a digit,
/// then base64.
pub(super) fn message(base64: bool, channel: u8, data: &[u8]) -> Message {
    if base64 {
        return Message::text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(data)));
    }
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

/// The channel's byte and the data of a message that has come; `None` for messages without data, and nonsense. Clients
/// send text as text (Python's does) and anything else as binary: it is the same to us.
pub(super) fn payload(message: Message, base64: bool) -> Option<Bytes> {
    if !(message.is_binary() || message.is_text()) {
        return None;
    }
    let data = message.into_data();
    if !base64 {
        return Some(data);
    }
    let (channel, data) = data.split_first()?;
    let mut bytes = vec![channel.checked_sub(b'0')?];
    STANDARD.decode_vec(data, &mut bytes).ok()?;
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        for base64 in [false, true] {
            let sent = message(base64, 9, b"data");
            assert_eq!(payload(sent, base64).unwrap(), &b"\x09data"[..]);
        }
        assert_eq!(payload(Message::text("\0ls"), false).unwrap(), &b"\0ls"[..]);
        assert_eq!(payload(Message::Ping(Bytes::new()), false), None);
        assert_eq!(payload(Message::text("/aGk="), true), None);
        assert_eq!(payload(Message::text(""), true), None);
    }
}
