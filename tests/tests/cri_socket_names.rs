//! Clients that call a unix socket by its path, as gRPC does in Python, Java, and in Go where it is given a dialer: their
//! requests are no proper ones by the letter of HTTP, and are answered all the same. Written byte by byte, because no
//! client of ours would say such a thing.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_tests::engine::{Engine, PATIENCE};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// A frame on a stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A short text as a literal of HPACK.
fn literal(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// A field that both sides remember.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0x40][..], &literal(name.as_bytes()), &literal(value.as_bytes())].concat()
}

/// The headers of a call of `Version`, with `authority` as it is on the wire.
fn headers(authority: &[u8]) -> Vec<u8> {
    let path = field(":path", "/runtime.v1.RuntimeService/Version");
    [
        &[0x83, 0x86][..],
        &path,
        authority,
        &field("content-type", "application/grpc"),
        &field("te", "trailers"),
    ]
    .concat()
}

/// Asks twice on one connection, the second time with what is remembered of the first, and returns all that was said.
fn asks(socket: &Path, authority: &[u8], again: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let empty = frame(DATA, END_STREAM, 1, &[0; 5]);
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    stream
        .write_all(&[preface, frame(HEADERS, END_HEADERS, 1, &headers(authority)), empty].concat())
        .unwrap();
    let mut said = until_trailers(&mut stream, 1);
    let empty = frame(DATA, END_STREAM, 3, &[0; 5]);
    stream.write_all(&[frame(HEADERS, END_HEADERS, 3, again), empty].concat()).unwrap();
    said.extend(until_trailers(&mut stream, 3));
    said
}

/// The data on the stream, until its end.
fn until_trailers(stream: &mut UnixStream, number: u32) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).unwrap();
        if u32::from_be_bytes([head[5], head[6], head[7], head[8]]) != number {
            continue;
        }
        match head[3] {
            DATA => data.extend(payload),
            HEADERS if head[4] & END_STREAM != 0 => return data,
            other => assert_eq!(other, HEADERS, "{payload:?}"),
        }
    }
}

#[tokio::test]
async fn a_socket_may_be_called_by_its_path() {
    let engine = Engine::start().await;
    let socket = engine.path("state/cri.sock");
    let path = socket.to_str().unwrap().to_owned();
    let escaped = path.trim_start_matches('/').replace('/', "%2F");
    // `www.example.com` in HPACK's code: what is remembered has the length that it had.
    let coded = b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    // Remembered are :path, the authority, and two more; the newest has the number 62.
    let remembered = [0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];
    let without = [0x83, 0x86, 0xc0, 0xbf, 0xbe];
    for (authority, again) in [
        ([&[0x41][..], &literal(path.as_bytes())].concat(), &remembered[..]),
        (field(":authority", &escaped), &remembered),
        ([&[0x41][..], coded].concat(), &remembered),
        (vec![0x81], &without),
        (Vec::new(), &without),
    ] {
        let said = asks(&socket, &authority, again);
        let times = said.windows(5).filter(|bytes| bytes == b"knarr").count();
        assert_eq!(times, 2, "{authority:?}: {}", String::from_utf8_lossy(&said));
    }
}
