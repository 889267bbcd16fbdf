//! Long answers told over a WebSocket (RFC 6455): browsers can read a stream in no other way. Each event of a watch is
//! one message; a log comes in pieces, in one of the protocols that Kubernetes has for readers. The server only talks:
//! of what the client sends, its farewell alone counts.

use super::answer::{self, Answer, Body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use knarr_api::Status;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

pub(crate) mod bearer;

/// Longest message read, bytes: readers have nothing to say.
const MAX_MESSAGE: usize = 64 << 10;
/// How long a client may take to answer our farewell.
const FAREWELL: Duration = Duration::from_secs(5);
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How the pieces of an answer become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Lines of JSON, a text message each.
    Lines,
    /// Messages of protobuf, each with its length before it.
    Lengths,
    /// Bytes as they come.
    Bytes,
    /// Bytes as they come, in base64.
    Base64,
}

/// What the two sides have agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    framing: Framing,
    /// The protocol that is named in the answer.
    protocol: Option<String>,
    key: String,
}

/// The protocols that the client names, in its order.
fn protocols(headers: &HeaderMap) -> Vec<&str> {
    let named =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|list| list.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

fn key(headers: &HeaderMap) -> Result<String, Status> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text(header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(Status::bad_request("missing or bad WebSocket Version"));
    }
    match text(header::SEC_WEBSOCKET_KEY) {
        "" => Err(Status::bad_request("mismatched challenge/response")),
        key => Ok(derive_accept_key(key.as_bytes())),
    }
}

/// For a watch: no protocol says more than the encoding of its events. One that is named is agreed to.
pub(crate) fn for_events(headers: &HeaderMap, framing: Framing) -> Result<Agreed, Status> {
    let protocol = protocols(headers).first().map(|name| (*name).to_owned());
    Ok(Agreed { framing, protocol, key: key(headers)? })
}

/// For a log: the first protocol that is known.
pub(crate) fn for_bytes(headers: &HeaderMap) -> Result<Agreed, Status> {
    let named = protocols(headers);
    let known = named.iter().find_map(|name| match *name {
        BINARY => Some((Framing::Bytes, Some(BINARY.to_owned()))),
        BASE64 => Some((Framing::Base64, Some(BASE64.to_owned()))),
        _ => None,
    });
    let plain = || named.is_empty().then_some((Framing::Bytes, None));
    let Some((framing, protocol)) = known.or_else(plain) else {
        let text = format!(
            "requested protocol(s) are not supported: [{}]; supports [{BASE64} {BINARY}]",
            named.join(" ")
        );
        return Err(Status::bad_request(text));
    };
    Ok(Agreed { framing, protocol, key: key(headers)? })
}

/// Switches protocols, and tells the body once the connection is there.
pub(crate) fn tell(agreed: Agreed, body: Body, upgrade: OnUpgrade) -> Result<Answer, Status> {
    let mut answer = Response::new(answer::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, agreed.key.parse().map_err(Status::internal)?);
    if let Some(protocol) = &agreed.protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().map_err(Status::internal)?);
    }
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => talk(connection, agreed.framing, body).await,
            Err(error) => tracing::debug!("upgrade: {error}"),
        }
    });
    Ok(answer)
}

/// Ends with the body or with the client, whichever is first.
async fn talk(connection: Upgraded, framing: Framing, body: Body) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let told = tokio::select! {
        told = say(&mut sink, framing, body) => told,
        () = hear(&mut stream) => Ok(()),
    };
    if let Err(error) = told {
        tracing::debug!("a WebSocket's client: {error}");
    }
    // A client that reads on is to see the end of the connection as one that was meant.
    let _ = tokio::time::timeout(FAREWELL, hear(&mut stream)).await;
    if let Ok(mut socket) = sink.reunite(stream) {
        let _ = socket.get_mut().shutdown().await;
    }
}

async fn say(
    sink: &mut SplitSink<Socket, Message>,
    framing: Framing,
    mut body: Body,
) -> Result<(), super::BoxError> {
    // A log that says nothing for long shows by this that it is read.
    if matches!(framing, Framing::Bytes | Framing::Base64) {
        sink.send(message(framing, &[])).await?;
    }
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        for part in parts(framing, &piece) {
            sink.feed(message(framing, part)).await?;
        }
        sink.flush().await?;
    }
    let well = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    sink.send(Message::Close(Some(well))).await?;
    Ok(())
}

/// Returns when the client leaves.
async fn hear(stream: &mut SplitStream<Socket>) {
    while let Some(Ok(_)) = stream.next().await {}
}

/// The messages that a piece of the body holds; pieces of a watch hold whole events.
fn parts(framing: Framing, piece: &[u8]) -> Vec<&[u8]> {
    match framing {
        Framing::Lines => piece.split_inclusive(|byte| *byte == b'\n').collect(),
        Framing::Lengths => lengths(piece),
        Framing::Bytes | Framing::Base64 if piece.is_empty() => Vec::new(),
        Framing::Bytes | Framing::Base64 => vec![piece],
    }
}

fn lengths(mut piece: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = piece.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((part, rest)) = rest.split_at_checked(length) else { break };
        parts.push(part);
        piece = rest;
    }
    parts
}

fn message(framing: Framing, part: &[u8]) -> Message {
    match framing {
        Framing::Lines => Message::text(String::from_utf8_lossy(part).into_owned()),
        Framing::Base64 => Message::text(STANDARD.encode(part)),
        Framing::Lengths | Framing::Bytes => Message::Binary(Bytes::copy_from_slice(part)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::headers;

    #[test]
    fn what_asks_for_a_websocket() {
        for (pairs, expected) in [
            (&[("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")][..], true),
            (&[("upgrade", "websocket")], false),
            (&[("upgrade", "SPDY/3.1"), ("connection", "Upgrade")], false),
            (&[], false),
        ] {
            assert_eq!(is_asked(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    /// Key and its answer are RFC 6455's own example.
    #[test]
    fn the_first_known_protocol_is_agreed_on() {
        let asked = |protocol: &str| {
            let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let mut pairs = vec![key, ("sec-websocket-version", "13")];
            if !protocol.is_empty() {
                pairs.push(("sec-websocket-protocol", protocol));
            }
            headers(&pairs)
        };
        for (protocol, framing, named) in [
            ("", Framing::Bytes, None),
            ("binary.k8s.io", Framing::Bytes, Some(BINARY)),
            ("x, base64.binary.k8s.io,binary.k8s.io", Framing::Base64, Some(BASE64)),
        ] {
            let agreed = for_bytes(&asked(protocol)).unwrap();
            assert_eq!((agreed.framing, agreed.protocol.as_deref()), (framing, named), "{protocol:?}");
            assert_eq!(agreed.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        }
        let refused = for_bytes(&asked("x, y")).unwrap_err();
        let text =
            "requested protocol(s) are not supported: [x y]; supports [base64.binary.k8s.io binary.k8s.io]";
        assert_eq!((refused.code, &*refused.message), (400, text));
        let watch = for_events(&asked("x, y"), Framing::Lines).unwrap();
        assert_eq!(watch.protocol.as_deref(), Some("x"));
        assert_eq!(for_bytes(&headers(&[("sec-websocket-version", "13")])).unwrap_err().code, 400);
        assert_eq!(for_bytes(&headers(&[("sec-websocket-key", "a")])).unwrap_err().code, 400);
    }

    #[test]
    fn pieces_become_messages() {
        let lines = parts(Framing::Lines, b"{1}\n{2}\n");
        assert_eq!(lines, [b"{1}\n", b"{2}\n"]);
        assert_eq!(message(Framing::Lines, lines[0]), Message::text("{1}\n"));
        assert_eq!(parts(Framing::Lengths, b"\0\0\0\x01a\0\0\0\x02bc"), [&b"a"[..], b"bc"]);
        assert_eq!(parts(Framing::Lengths, b"\0\0\0\x09a"), [&b""[..]; 0]);
        assert_eq!(parts(Framing::Bytes, b""), [&b""[..]; 0]);
        assert_eq!(message(Framing::Base64, b"hi"), Message::text("aGk="));
        assert_eq!(message(Framing::Bytes, b"\xff"), Message::Binary(Bytes::from_static(b"\xff")));
    }
}
