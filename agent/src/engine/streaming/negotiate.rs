//! Which transport and which version of the stream protocol a client and we have in common.
//!
//! SPDY clients list versions in `X-Stream-Protocol-Version` (repeated, best first), WebSocket clients in
//! `Sec-WebSocket-Protocol`. What the versions add for exec and attach: v2 the error stream's end, v3 resize, v4 a
//! Status object in JSON as the result, v5 (WebSocket only) the end of one stream. The base64 kinds are for browsers
//! that can only send text.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const SPDY_VERSION: &str = "x-stream-protocol-version";
const SPDY: &str = "SPDY/3.1";

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) transport: Transport,
    /// The name to answer with; empty where the client named none.
    name: &'static str,
    /// 1 to 5.
    pub(super) version: u8,
    /// Binary frames are sent as text.
    pub(super) base64: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Spdy,
    WebSocket,
    /// Port forwarding's SPDY inside a WebSocket.
    SpdyInWebSocket,
}

/// Name, version, base64; the best first.
type Known = (&'static str, u8, bool);

const SPDY_STREAMS: &[Known] = &[
    ("v4.channel.k8s.io", 4, false),
    ("v3.channel.k8s.io", 3, false),
    ("v2.channel.k8s.io", 2, false),
    ("channel.k8s.io", 1, false),
];

const WEBSOCKET_STREAMS: &[Known] = &[
    ("v5.channel.k8s.io", 5, false),
    ("v4.channel.k8s.io", 4, false),
    ("v4.base64.channel.k8s.io", 4, true),
    ("channel.k8s.io", 1, false),
    ("base64.channel.k8s.io", 1, true),
];

const SPDY_PORTS: &[Known] = &[("portforward.k8s.io", 1, false)];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET_PORTS: &[Known] =
    &[(TUNNEL, 1, false), ("v4.channel.k8s.io", 4, false), ("v4.base64.channel.k8s.io", 4, true)];

/// Agrees with the client, or says why not.
pub(super) fn negotiate(headers: &HeaderMap, ports: bool) -> Result<Protocol, (StatusCode, String)> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("websocket") {
        let known = if ports { WEBSOCKET_PORTS } else { WEBSOCKET_STREAMS };
        if !headers.contains_key(SEC_WEBSOCKET_KEY) {
            return Err((StatusCode::BAD_REQUEST, "missing Sec-WebSocket-Key\n".to_owned()));
        }
        let agreed = agree(offers(headers, SEC_WEBSOCKET_PROTOCOL.as_str()), known, Transport::WebSocket)?;
        let transport = if agreed.name == TUNNEL { Transport::SpdyInWebSocket } else { agreed.transport };
        return Ok(Protocol { transport, ..agreed });
    }
    if upgrade.eq_ignore_ascii_case(SPDY) {
        let known = if ports { SPDY_PORTS } else { SPDY_STREAMS };
        return agree(offers(headers, SPDY_VERSION), known, Transport::Spdy);
    }
    Err((StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request\n".to_owned()))
}

fn offers<'a>(headers: &'a HeaderMap, name: &'a str) -> Vec<&'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|offer| !offer.is_empty()).collect()
}

fn agree(offers: Vec<&str>, known: &[Known], transport: Transport) -> Result<Protocol, (StatusCode, String)> {
    if offers.is_empty() {
        return Ok(Protocol { transport, name: "", version: 1, base64: false });
    }
    let agreed = known.iter().find(|(name, ..)| offers.contains(name));
    agreed.map(|(name, version, base64)| Protocol { transport, name, version: *version, base64: *base64 }).ok_or_else(
        || {
            let ours: Vec<_> = known.iter().map(|(name, ..)| *name).collect();
            let message =
                format!("unable to upgrade: unable to negotiate protocol: client supports {offers:?}, server accepts {ours:?}\n");
            (StatusCode::FORBIDDEN, message)
        },
    )
}

impl Protocol {
    /// The answer after which both sides speak it.
    pub(super) fn switching_response(self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if self.transport == Transport::Spdy {
            headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
            if !self.name.is_empty() {
                headers.insert(SPDY_VERSION, HeaderValue::from_static(self.name));
            }
            return response;
        }
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let accept = request.get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
        if let Some(accept) = accept.and_then(|accept| HeaderValue::try_from(accept).ok()) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if !self.name.is_empty() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.name));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&'static str, &'static str)], ports: bool) -> Result<(&'static str, u8), StatusCode> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        negotiate(&headers, ports).map(|agreed| (agreed.name, agreed.version)).map_err(|(status, _)| status)
    }

    #[test]
    fn the_best_common_version_is_taken() {
        let spdy = ("upgrade", "SPDY/3.1");
        let websocket = ("upgrade", "websocket");
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(
            ask(
                &[
                    spdy,
                    (SPDY_VERSION, "channel.k8s.io"),
                    (SPDY_VERSION, "v3.channel.k8s.io, v4.channel.k8s.io")
                ],
                false
            ),
            Ok(("v4.channel.k8s.io", 4))
        );
        assert_eq!(ask(&[spdy], false), Ok(("", 1)));
        assert_eq!(ask(&[spdy, (SPDY_VERSION, "v9")], false), Err(StatusCode::FORBIDDEN));
        assert_eq!(
            ask(&[websocket, key, ("sec-websocket-protocol", "v4.channel.k8s.io,v5.channel.k8s.io")], false),
            Ok(("v5.channel.k8s.io", 5))
        );
        assert_eq!(
            ask(&[websocket, key, ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")], true),
            Ok(("SPDY/3.1+portforward.k8s.io", 1))
        );
        assert_eq!(
            ask(&[websocket, key, ("sec-websocket-protocol", "v4.channel.k8s.io")], true),
            Ok(("v4.channel.k8s.io", 4))
        );
        assert_eq!(ask(&[websocket], false), Err(StatusCode::BAD_REQUEST));
        assert_eq!(ask(&[], false), Err(StatusCode::BAD_REQUEST));
    }
}
